"""Noise in proportion to the drift, as dropout has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.diffusions.base import DiffusionField, Fields
from sfumato.sde.diffusions.citations import LIU2019


@dataclass(frozen=True, kw_only=True)
class DropoutType(DiffusionField):
    """g = sigma f(t, h), as in the NeuralSDE code of 2019: Gaussian noise that multiplies the drift.

    Dropout on the branch of a residual block multiplies each of its values by a Bernoulli variable over its
    probability of keeping, p: mean 1 and variance (1 - p) / p. A step f dt + sigma f dW has the same two moments where
    sigma^2 = dt (1 - p) / p, so the match holds for one length of step, and the law is Gaussian, not Bernoulli. Later
    code of the same authors has Poisson and Bernoulli jumps in its place; this is not that.

    Each value depends on the whole state through the drift, so no slope is known, and the Milstein method refuses it.
    """

    name: ClassVar[str] = "dropout-type"
    summary: ClassVar[str] = "In proportion to the drift: sigma f(t, h); dropout's first two moments."
    reference: ClassVar[str] = "liu2019neural"
    bibtex: ClassVar[str] = LIU2019

    def along(self, learned: torch.Tensor | None) -> Fields:
        return Fields(lambda _, __, drift: drift * self.sigma, None)
