"""Convolutional networks for pictures of 8 pixels a side and more: a generator by transposed convolutions, a critic."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from sfumato.models.shape import image_shape

SMALLEST = 8  # pixels a side
COARSEST = 4  # pixels a side of the smallest feature map
WIDEST = 4  # times the width of the finest feature map


class Grid(NamedTuple):
    """How a picture is built up: from `base` pixels a side, doubled `doublings` times, then cut to its size.

    Attributes:
        channels: of the picture.
        size: height and width of the picture.
        base: height and width of the coarsest feature map.
        doublings: how often the sides are doubled.
    """

    channels: int
    size: tuple[int, int]
    base: tuple[int, int]
    doublings: int


def grid_of(shape: tuple[int, ...]) -> Grid:
    """28 pixels are 7 doubled twice, 32 are 4 doubled three times, 64 are 4 doubled four times.

    Raises:
        UnsupportedModel: if this is no picture of 8 pixels a side or more.
    """
    image = image_shape("convolutional generators", shape, smallest=SMALLEST)
    doublings = (min(image.height, image.width) // COARSEST).bit_length() - 1
    base = (-(-image.height // 2**doublings), -(-image.width // 2**doublings))
    return Grid(image.channels, (image.height, image.width), base, doublings)


def widths(grid: Grid, width: int) -> list[int]:
    """Channels of the feature maps from the finest to the coarsest: `width`, twice that, at most four times."""
    return [min(width * 2**level, WIDEST * width) for level in range(grid.doublings)]


class DCGenerator(nn.Module):
    """Latents to pictures in [0, 1]: a linear layer, then 4x4 transposed convolutions of stride 2.

    Batch normalisation and ReLU between the layers, a sigmoid behind the last (Radford et al., 2016, without their
    widths).

    Args:
        shape: (channels, height, width) of a picture.
        latent: length of a latent vector.
        width: channels of the finest hidden feature map.

    Attributes:
        blocks: chained, they are the network; each takes (feature map, latents, classes) and reads the first only.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int) -> None:
        super().__init__()
        grid = grid_of(shape)
        channels = widths(grid, width)[::-1]
        blocks: list[nn.Module] = [Projected(latent, channels[0], grid.base)]
        blocks += [Doubled(before, after) for before, after in pairwise(channels)]
        self.blocks = nn.ModuleList([*blocks, Finished(channels[-1], grid)])

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[b, latent] to [b, *shape]."""
        hidden = z
        for block in self.blocks:
            hidden = block(hidden, z, None)
        return hidden


class Projected(nn.Module):
    """Latents to the coarsest feature map: linear, normalised, ReLU."""

    def __init__(self, latent: int, channels: int, base: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent, channels * base[0] * base[1], bias=False),
            nn.Unflatten(1, (channels, *base)),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """[b, latent] to [b, channels, *base]."""
        return self.layers(hidden)


class Doubled(nn.Module):
    """A feature map to one of twice the sides: transposed convolution, normalised, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
        )

    def forward(self, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """[b, before, h, w] to [b, after, 2h, 2w]."""
        return self.layers(hidden)


class Finished(nn.Module):
    """The last feature map to a picture in [0, 1]: transposed convolution, cut to its size, sigmoid."""

    def __init__(self, before: int, grid: Grid) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(before, grid.channels, 4, 2, 1)
        self.size = grid.size

    def forward(self, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """[b, before, h, w] to [b, channels, *size]."""
        return cut(self.layer(hidden), self.size).sigmoid()


class ConvCritic(nn.Module):
    """Pictures to `outputs` numbers: 4x4 convolutions of stride 2 with leaky ReLU, then one linear layer.

    No normalisation, so that records are judged apart, as a penalty on the gradient of each needs.

    Args:
        shape: (channels, height, width) of a picture.
        outputs: numbers for each.
        width: channels of the finest feature map.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, width: int) -> None:
        super().__init__()
        grid = grid_of(shape)
        channels = [grid.channels, *widths(grid, width)]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        sides = [side // 2**grid.doublings for side in grid.size]
        self.head = nn.Linear(channels[-1] * sides[0] * sides[1], outputs)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[b, *shape] to what the linear layer is given, [b, D]."""
        return self.body(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, *shape] to [b, outputs]."""
        return self.head(self.features(x))


def cut(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The middle of pictures [b, channels, h, w], [b, channels, *size]."""
    top, left = (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2
    return x[:, :, top : top + size[0], left : left + size[1]]
