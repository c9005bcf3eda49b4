"""Wide residual network for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.wide_resnet import WideResNet
from sfumato.training.presets.residual import ResidualPreset


@dataclass(frozen=True, kw_only=True)
class ImageWideResNet(ResidualPreset):
    """WRN-16-4 unless told otherwise.

    Args:
        depth: of the form 6n + 4.
        width: factor on the channels.
        dropout: rate between the two convolutions of a block.
    """

    name: ClassVar[str] = "image-wide-resnet"
    reference: ClassVar[str] = WideResNet.reference
    summary: ClassVar[str] = "Wide residual network (16-4 by default; GroupNorm on request); wants a GPU."

    nesterov: bool = True
    depth: int = 16
    width: int = 4
    dropout: float = 0.0

    def model(self) -> ModelFamily:
        return WideResNet(depth=self.depth, width=self.width, norm=self.norm, dropout=self.dropout)
