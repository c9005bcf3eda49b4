"""ResNet-18 for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.resnet import ResNet18
from sfumato.training.presets.residual import ResidualPreset


@dataclass(frozen=True, kw_only=True)
class ImageResNet18(ResidualPreset):
    """ResNet-18 with a stem for small images; wants a GPU."""

    name: ClassVar[str] = "image-resnet18"
    reference: ClassVar[str] = ResNet18.reference
    summary: ClassVar[str] = "ResNet-18 with a stem for small images; wants a GPU."

    width: int = 64

    def model(self) -> ModelFamily:
        return ResNet18(width=self.width, norm=self.norm)
