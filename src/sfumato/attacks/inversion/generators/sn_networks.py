"""Residual networks that take the class: a generator with conditional normalisation, and a projection discriminator.

After Miyato and Koyama (ICLR 2018) and Miyato et al. (ICLR 2018), with few channels, and with strided convolutions in
place of convolutions at full size, which cost a processor four times as much.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.nn.utils.parametrizations import spectral_norm

from sfumato.attacks.inversion.generators.dc_networks import Grid, cut, grid_of, widths


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scale and shift are looked up by class.

    Args:
        channels: of the feature map.
        classes: how many there are.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.normalised = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[b, channels, h, w] and int64 [b] to the same shape."""
        return self.scale(labels)[:, :, None, None] * self.normalised(x) + self.shift(labels)[:, :, None, None]


class ConditionalGenerator(nn.Module):
    """Latents and classes to pictures in [0, 1].

    Args:
        shape: (channels, height, width) of a picture.
        latent: length of a latent vector.
        width: channels of the finest hidden feature map.
        classes: how many there are.

    Attributes:
        blocks: chained, they are the network; each takes (feature map, latents, classes).
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, classes: int) -> None:
        super().__init__()
        grid = grid_of(shape)
        channels = [*widths(grid, 2 * width)[::-1], width]
        doubled = [ResidualUp(a, b, classes) for a, b in pairwise(channels)]
        self.blocks = nn.ModuleList([LinearStart(latent, channels[0], grid.base), *doubled, ConvEnd(width, grid)])

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[b, latent] and int64 [b] to [b, *shape]."""
        hidden = z
        for block in self.blocks:
            hidden = block(hidden, z, labels)
        return hidden


class LinearStart(nn.Module):
    """Latents to the coarsest feature map by one linear layer."""

    def __init__(self, latent: int, channels: int, base: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent, channels * base[0] * base[1]), nn.Unflatten(1, (channels, *base)))

    def forward(self, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """[b, latent] to [b, channels, *base]."""
        return self.layers(hidden)


class ResidualUp(nn.Module):
    """A feature map to one of twice the sides, around a shortcut."""

    def __init__(self, before: int, after: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = ConditionalNorm(before, classes), ConditionalNorm(after, classes)
        self.doubling = nn.ConvTranspose2d(before, after, 4, 2, 1)
        self.convolution = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[b, before, h, w] to [b, after, 2h, 2w]."""
        inner = self.doubling(self.first(hidden, labels).relu())
        residual = self.convolution(self.second(inner, labels).relu())
        return residual + interpolate(self.shortcut(hidden), scale_factor=2)


class ConvEnd(nn.Module):
    """The last feature map to a picture in [0, 1]: normalised, ReLU, convolution, cut to its size, sigmoid."""

    def __init__(self, before: int, grid: Grid) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, grid.channels, 3, padding=1))
        self.size = grid.size

    def forward(self, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """[b, before, h, w] to [b, channels, *size]."""
        return cut(self.layers(hidden), self.size).sigmoid()


class ProjectionDiscriminator(nn.Module):
    """How real pictures look, and how much like their class: psi(phi(x)) + <embedding of the class, phi(x)>.

    All weights are divided by their spectral norm.

    Args:
        shape: (channels, height, width) of a picture.
        width: channels of the finest feature map.
        classes: how many there are.
    """

    def __init__(self, shape: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        grid = grid_of(shape)
        channels = [grid.channels, *widths(grid, 2 * width)]
        self.body = nn.Sequential(*(ResidualDown(a, b) for a, b in pairwise(channels)))
        self.psi = spectral_norm(nn.Linear(channels[-1], 1))
        self.embedding = spectral_norm(nn.Embedding(classes, channels[-1]))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[b, *shape] and int64 [b] to [b]."""
        phi = self.body(x).relu().sum(dim=(2, 3))
        return self.psi(phi).squeeze(1) + (self.embedding(labels) * phi).sum(dim=1)


class ResidualDown(nn.Module):
    """A feature map to one of half the sides, around a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.halving = spectral_norm(nn.Conv2d(before, after, 4, 2, 1))
        self.convolution = spectral_norm(nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(before, after, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, before, h, w] to [b, after, h / 2, w / 2]."""
        return self.convolution(self.halving(x).relu()) + self.shortcut(avg_pool2d(x, 2))
