"""ResNet-20 for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.resnet import ResNet20
from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class ImageResNet20(Preset):
    """ResNet-20: three stages of three blocks each.

    Args:
        width: channels of the first stage.
        norm: "batch" or "group".
    """

    name: ClassVar[str] = "image-resnet20"
    reference: ClassVar[str] = ResNet20.reference
    summary: ClassVar[str] = "ResNet-20: three stages of three blocks each."
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    weight_decay: float = 5e-4
    augmentation: tuple[str, ...] = ("flip", "shift")
    width: int = 16
    norm: str = "batch"

    def model(self) -> ModelFamily:
        return ResNet20(width=self.width, norm=self.norm)
