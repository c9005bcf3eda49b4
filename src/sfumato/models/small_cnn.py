"""A small convolutional network for images of 8 pixels a side and more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sfumato.models.base import ModelFamily
from sfumato.models.shape import ImageShape, image_shape, outputs_checked


@dataclass(frozen=True, kw_only=True)
class SmallCNN(ModelFamily):
    """Two 3x3 convolutions (16 and 32 channels, padded) with max-pooling, then 64 hidden units.

    The first pooling window is 2x2. The second is 4x4 where both sides have 24 pixels or more, and 2x2 below that: so
    the features before the linear layers are 32 x 3 x 3 for 28x28 images, 32 x 4 x 4 for 32x32 and 32 x 2 x 2 for 8x8.
    23,946 parameters for ten classes of 28x28 grey images.
    """

    name: ClassVar[str] = "small-cnn"
    reference: ClassVar[str] = "lecun1998gradient"
    bibtex: ClassVar[str] = """@article{lecun1998gradient,
  author = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  title = {Gradient-Based Learning Applied to Document Recognition},
  journal = {Proceedings of the IEEE},
  volume = {86},
  number = {11},
  pages = {2278--2324},
  year = {1998}
}"""

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        image = image_shape(self.name, shape, smallest=8)
        window = 4 if min(image.height, image.width) >= 24 else 2
        return nn.Sequential(
            *_convolution(image.channels, 16, window=2),
            *_convolution(16, 32, window=window),
            nn.Flatten(),
            nn.Linear(_features(image, window), 64),
            nn.ReLU(),
            nn.Linear(64, outputs_checked(outputs)),
        )


def _convolution(before: int, after: int, window: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(window)]


def _features(image: ImageShape, window: int) -> int:
    return 32 * (image.height // 2 // window) * (image.width // 2 // window)
