"""The drift of the torchdiffeq example `odenet_mnist`: two normalised, rectified 3x3 convolutions with time input."""

from __future__ import annotations

import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack


class TimeConv2d(nn.Module):
    """A 3x3 convolution over the state and a constant plane of value t, as in the torchdiffeq example.

    The plane has a kernel of its own: the sum of both convolutions is the one over state and plane joined, without
    the copy, and with channels in a number that the processor's kernels are made for (a quarter of the time).

    Args:
        channels: of the state; kept.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        limit = (9 * (channels + 1)) ** -0.5  # torch's for the joined convolution
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -limit, limit)

    def forward(self, t: float, h: torch.Tensor) -> torch.Tensor:
        """Time and [batch, channels, height, width] to the same shape."""
        rows = 1 if self._shares_plane() else h.shape[0]
        return self.conv(h) + self.time(h.new_full((rows, 1, *h.shape[2:]), t))

    def _shares_plane(self) -> bool:
        """Whether one plane serves all rows: not in a stack of models, and not where something looks at single rows."""
        watched = self.time._forward_hooks or _get_current_function_mode_stack()  # Opacus; the engine of `private`
        return type(self.time) is nn.Conv2d and not watched


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
