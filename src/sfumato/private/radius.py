"""Records within a radius: what bounds how far one record can be from another."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.validate import positive

INSIDE = 1 - 1e-6  # of the radius: rounding must not lift a norm above it


def within(x: torch.Tensor, radius: float) -> torch.Tensor:
    """Each row at an L2 norm of at most `radius`; shorter rows stay, rows that are not finite become zeros.

    Args:
        x: float [n, ...].
        radius: above 0.
    """
    flat = x.reshape(len(x), -1)
    rows = torch.where(flat.isfinite().all(dim=1, keepdim=True), flat, 0.0)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    bound, least = INSIDE * radius, torch.finfo(x.dtype).tiny
    peak = rows.abs().amax(dim=1, keepdim=True).clamp_min(least)  # first to a size near 1, so that no factor underflows
    clipped = rows / peak * (bound * peak.double() / lengths.clamp_min(least)).to(x.dtype)
    return torch.where(lengths <= bound, rows, clipped).reshape(x.shape)


class WithinRadius(nn.Module):
    """`within` as a layer without tensors of its own.

    Args:
        radius: above 0.
    """

    def __init__(self, radius: float) -> None:
        super().__init__()
        positive("radius", radius)
        self.radius = radius

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [n, ...] to the same shape."""
        return within(x, self.radius)

    def extra_repr(self) -> str:
        """The radius, for `print(model)`."""
        return f"radius={self.radius:g}"
