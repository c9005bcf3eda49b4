"""What the presets of residual networks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class ResidualPreset(Preset):
    """Ordinary training of a residual network: SGD with weight decay, flips and shifts.

    Args:
        width: channels of the first stage.
        norm: "batch" or "group".
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    weight_decay: float = 5e-4
    augmentation: tuple[str, ...] = ("flip", "shift")
    width: int = 16
    norm: str = "batch"
