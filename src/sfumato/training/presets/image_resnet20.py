"""ResNet-20 for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.resnet import ResNet20
from sfumato.training.presets.residual import ResidualPreset


@dataclass(frozen=True, kw_only=True)
class ImageResNet20(ResidualPreset):
    """ResNet-20: three stages of three blocks each."""

    name: ClassVar[str] = "image-resnet20"
    reference: ClassVar[str] = ResNet20.reference
    summary: ClassVar[str] = "ResNet-20: three stages of three blocks each."

    def model(self) -> ModelFamily:
        return ResNet20(width=self.width, norm=self.norm)
