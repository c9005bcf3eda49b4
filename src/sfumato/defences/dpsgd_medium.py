"""High-utility DP-SGD, "medium"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.defences.high_utility import HighUtilityDPSGD


@dataclass(frozen=True, kw_only=True)
class DPSGDMedium(HighUtilityDPSGD):
    """The baseline "medium" of Aerni et al. (2024): batches of 2048, 200 epochs, noise multiplier 0.2."""

    name: ClassVar[str] = "dpsgd-medium"
    summary: ClassVar[str] = 'DP-SGD with so little noise that its guarantee excludes nothing; baseline "medium".'

    expected_batch_size: float = 2048
    epochs: float = 200
    noise_multiplier: float = 0.2
