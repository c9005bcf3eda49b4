"""Wide residual network for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.wide_resnet import WideResNet
from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class ImageWideResNet(Preset):
    """WRN-16-4 unless told otherwise.

    Args:
        depth: of the form 6n + 4.
        width: factor on the channels.
        norm: "batch" or "group".
        dropout: rate between the two convolutions of a block.
    """

    name: ClassVar[str] = "image-wide-resnet"
    reference: ClassVar[str] = WideResNet.reference
    summary: ClassVar[str] = "Wide residual network (16-4 by default; GroupNorm on request); wants a GPU."
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    weight_decay: float = 5e-4
    nesterov: bool = True
    augmentation: tuple[str, ...] = ("flip", "shift")
    depth: int = 16
    width: int = 4
    norm: str = "batch"
    dropout: float = 0.0

    def model(self) -> ModelFamily:
        return WideResNet(depth=self.depth, width=self.width, norm=self.norm, dropout=self.dropout)
