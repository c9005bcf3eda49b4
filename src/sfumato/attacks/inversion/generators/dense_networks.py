"""Networks of linear layers, for tables and for pictures that are too small for convolutions."""

from __future__ import annotations

import math

import torch
from torch import nn


class DenseGenerator(nn.Module):
    """Latents to records in standardised units: two hidden layers with ReLU.

    Args:
        shape: of one record.
        latent: length of a latent vector.
        width: units of each hidden layer.

    Attributes:
        blocks: chained, they are the network; each takes (feature map, latents, classes) and reads the first only.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                DenseBlock(nn.Linear(latent, width), nn.ReLU()),
                DenseBlock(nn.Linear(width, width), nn.ReLU()),
                DenseBlock(nn.Linear(width, math.prod(shape)), nn.Unflatten(1, shape)),
            ]
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[b, latent] to [b, *shape]."""
        hidden = z
        for block in self.blocks:
            hidden = block(hidden, z, None)
        return hidden


class DenseBlock(nn.Module):
    """Layers one after another."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """[b, before] to [b, after]."""
        return self.layers(hidden)


def dense_encoder(shape: tuple[int, ...], outputs: int, width: int) -> nn.Module:
    """Records [b, *shape] to [b, outputs]: two hidden layers with ReLU."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )
