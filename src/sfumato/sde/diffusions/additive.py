"""Additive noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.diffusions.base import DiffusionField, Fields
from sfumato.sde.diffusions.citations import LIU2019


@dataclass(frozen=True, kw_only=True)
class Additive(DiffusionField):
    """g = sigma, wherever the state is."""

    name: ClassVar[str] = "additive"
    summary: ClassVar[str] = "The same strength everywhere: sigma."
    reference: ClassVar[str] = "liu2019neural"
    bibtex: ClassVar[str] = LIU2019

    def along(self, learned: torch.Tensor | None) -> Fields:
        return Fields(lambda *_: self.sigma, lambda *_: 0.0)
