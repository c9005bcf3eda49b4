"""Standardisation of the input as a layer, so that it travels with the weights."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.errors import UsageError


class Standardise(nn.Module):
    """Subtract the mean and divide by the standard deviation, per feature (tables) or per channel (images).

    A feature that does not vary beyond the rounding of single precision (standard deviation of at most 2^-23 times the
    absolute mean, 0 included) is only centred: dividing by it would blow rounding errors up.

    Args:
        mean: [features] or [channels].
        std: of the same shape, not negative, in the units of the data.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        if mean.dim() != 1 or mean.shape != std.shape or not bool((std >= 0).all()):
            raise UsageError(
                "Expected `mean` and `std` with one entry per feature or channel and no negative `std`, "
                f"got shapes {tuple(mean.shape)} and {tuple(std.shape)}.",
                remedy="Compute both over the training records, per column of a table or per channel of an image.",
            )
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", torch.where(constant(mean, std), torch.ones_like(std), std).detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, features] or [batch, channels, ...] to the same shape."""
        spread = (-1, *(1 for _ in range(x.dim() - 2)))
        return (x - self.mean.view(spread)) / self.std.view(spread)


def constant(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """bool, of the same shape: which features do not vary beyond rounding."""
    single = torch.finfo(torch.float32)
    return std <= torch.clamp(single.eps * mean.abs(), min=single.tiny)
