"""ResNet-8 for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.resnet import ResNet8
from sfumato.training.presets.residual import ResidualPreset


@dataclass(frozen=True, kw_only=True)
class ImageResNet8(ResidualPreset):
    """ResNet-8: three stages of one block each; the smallest residual network."""

    name: ClassVar[str] = "image-resnet8"
    reference: ClassVar[str] = ResNet8.reference
    summary: ClassVar[str] = "ResNet-8: three stages of one block each; the smallest residual network."

    def model(self) -> ModelFamily:
        return ResNet8(width=self.width, norm=self.norm)
