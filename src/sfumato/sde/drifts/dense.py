"""A drift for tables: two linear layers with a smooth activation and time input."""

from __future__ import annotations

import torch
from torch import nn


class DenseDrift(nn.Module):
    """LayerNorm, linear over state and time, SiLU, linear over hidden values and time.

    Args:
        width: of the state.
        hidden: width of the layer between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width + 1, hidden)
        self.second = nn.Linear(hidden + 1, width)
        self.activation = nn.SiLU()

    def forward(self, t: float, h: torch.Tensor) -> torch.Tensor:
        """Time and [batch, width] to the same shape."""
        time = h.new_full((*h.shape[:-1], 1), t)
        hidden = self.activation(self.first(torch.cat([self.norm(h), time], dim=-1)))
        return self.second(torch.cat([hidden, time], dim=-1))
