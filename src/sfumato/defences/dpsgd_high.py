"""High-utility DP-SGD, "high"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.defences.high_utility import HighUtilityDPSGD


@dataclass(frozen=True, kw_only=True)
class DPSGDHigh(HighUtilityDPSGD):
    """The baseline "high" of Aerni et al. (2024): batches of 64, 16 epochs, noise multiplier 0.00625."""

    name: ClassVar[str] = "dpsgd-high"
    summary: ClassVar[str] = 'DP-SGD with so little noise that its guarantee excludes nothing; baseline "high".'

    canary: ClassVar[str] = "out-of-distribution"  # worst for this one in the study; mislabelled for the other two

    expected_batch_size: float = 64
    epochs: float = 16
    noise_multiplier: float = 0.00625
