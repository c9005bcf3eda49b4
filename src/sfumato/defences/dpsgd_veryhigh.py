"""High-utility DP-SGD, "veryhigh"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.defences.high_utility import HighUtilityDPSGD


@dataclass(frozen=True, kw_only=True)
class DPSGDVeryHigh(HighUtilityDPSGD):
    """The baseline "veryhigh" of Aerni et al. (2024): batches of 64, 25 epochs, noise multiplier 0.003125."""

    name: ClassVar[str] = "dpsgd-veryhigh"
    summary: ClassVar[str] = 'DP-SGD with so little noise that its guarantee excludes nothing; baseline "veryhigh".'

    expected_batch_size: float = 64
    epochs: float = 25
    noise_multiplier: float = 0.003125
