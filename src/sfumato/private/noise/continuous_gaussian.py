"""The Gaussian mechanism as DP-SGD states it, in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.private.citations import ABADI2016
from sfumato.private.noise.kind import NoiseKind
from sfumato.private.noise.source import NoiseSource


@dataclass(frozen=True)
class ContinuousGaussian(NoiseKind):
    """Adds N(0, std^2) to each entry (Abadi et al., arXiv 1607.00133, algorithm 1), rounded to floating point.

    The accounting is that of real numbers. `SystemNoise` says what rounding leaves open; `DiscreteGaussian` closes it.
    """

    name: ClassVar[str] = "continuous-gaussian"
    summary: ClassVar[str] = "Gaussian noise in floating point."
    reference: ClassVar[str] = "abadi2016deep"
    bibtex: ClassVar[str] = ABADI2016

    def add(self, sum_: torch.Tensor, std: float, source: NoiseSource) -> torch.Tensor:
        return source.add_(sum_, std)

    def sensitivity_slack(self, parameters: int, std: float) -> float:
        return 0.0
