"""Multiplicative noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.diffusions.base import DiffusionField, Fields
from sfumato.sde.diffusions.citations import LIU2019


@dataclass(frozen=True, kw_only=True)
class Multiplicative(DiffusionField):
    """g = sigma h: a state of zero gets no noise."""

    name: ClassVar[str] = "multiplicative"
    summary: ClassVar[str] = "In proportion to each value of the state: sigma h."
    reference: ClassVar[str] = "liu2019neural"
    bibtex: ClassVar[str] = LIU2019

    def along(self, learned: torch.Tensor | None) -> Fields:
        return Fields(lambda _, h, __: h * self.sigma, lambda *_: self.sigma)
