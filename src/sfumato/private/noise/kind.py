"""What noise is added: the contract of every kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.private.noise.source import NoiseSource


@dataclass(frozen=True)
class NoiseKind(ABC):
    """The distribution of the noise, and how it meets the clipped sum."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""

    @abstractmethod
    def add(self, sum_: torch.Tensor, std: float, source: NoiseSource) -> torch.Tensor:
        """Change the clipped sum into the noisy one, in place, and return it.

        Args:
            sum_: contiguous float32 or float64, any shape: the sum over units of clipped contributions.
            std: the standard deviation of the noise, noise multiplier times sensitivity; 0 adds nothing.
            source: where the noise comes from.

        Raises:
            UsageError: for another dtype or layout, or a `std` that is negative or not finite.
        """

    @abstractmethod
    def sensitivity_slack(self, parameters: int, std: float) -> float:
        """By how much the L2 clip bound must shrink so that this kind's rounding stays within the accounted bound.

        Args:
            parameters: the number of entries of the sum.
            std: the standard deviation that will be passed to `add`.
        """
