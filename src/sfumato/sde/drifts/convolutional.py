"""The drift of the torchdiffeq example `odenet_mnist`: two normalised, rectified 3x3 convolutions with time input."""

from __future__ import annotations

import torch
from torch import nn


class TimeConv2d(nn.Module):
    """A 3x3 convolution over the state and a constant plane of value t, as in the torchdiffeq example.

    Args:
        channels: of the state; kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, t: float, h: torch.Tensor) -> torch.Tensor:
        """Time and [batch, channels, height, width] to the same shape."""
        plane = h.new_full((), t).expand(h.shape[0], 1, *h.shape[2:])
        return self.conv(torch.cat([h, plane], dim=1))


class ConvDrift(nn.Module):
    """GN, ReLU, conv 3x3, GN, ReLU, conv 3x3, GN, each convolution with a time plane.

    Args:
        channels: of the state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(group_norm(channels) for _ in range(3))
        self.convs = nn.ModuleList(TimeConv2d(channels) for _ in range(2))
        self.activation = nn.ReLU()

    def forward(self, t: float, h: torch.Tensor) -> torch.Tensor:
        """Time and [batch, channels, height, width] to the same shape."""
        for norm, conv in zip(self.norms, self.convs, strict=False):
            h = conv(t, self.activation(norm(h)))
        return self.norms[2](h)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, as the example has, or with the most below 32 that divide the channels."""
    return nn.GroupNorm(max(groups for groups in range(1, 33) if channels % groups == 0), channels)
