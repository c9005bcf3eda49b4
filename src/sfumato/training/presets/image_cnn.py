"""A small convolutional network for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class ImageCNN(Preset):
    """Two convolutions and a hidden layer; trains in seconds on a laptop."""

    name: ClassVar[str] = "image-cnn"
    reference: ClassVar[str] = SmallCNN.reference
    summary: ClassVar[str] = "Small convolutional network for images of 8 pixels a side and more."
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    default_for: ClassVar[str] = "image"

    epochs: int = 20

    def model(self) -> ModelFamily:
        return SmallCNN()
