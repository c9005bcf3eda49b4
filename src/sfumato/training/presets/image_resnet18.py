"""ResNet-18 for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.resnet import ResNet18
from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class ImageResNet18(Preset):
    """ResNet-18 with a stem for small images; wants a GPU.

    Args:
        width: channels of the first stage.
        norm: "batch" or "group".
    """

    name: ClassVar[str] = "image-resnet18"
    reference: ClassVar[str] = ResNet18.reference
    summary: ClassVar[str] = "ResNet-18 with a stem for small images; wants a GPU."
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    weight_decay: float = 5e-4
    augmentation: tuple[str, ...] = ("flip", "shift")
    width: int = 64
    norm: str = "batch"

    def model(self) -> ModelFamily:
        return ResNet18(width=self.width, norm=self.norm)
