"""Whitening of channels as a layer, so that it travels with the weights."""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.models.features.fixed_norm import of_norm


class ChannelWhitening(nn.Module):
    """Scale each record to norm 1, subtract a mean, mix the channels by one matrix, and scale to a fixed norm.

    Fresh, it only picks the first `keep` channels; whoever fits it sets `mean` and `matrix`.

    Args:
        shape: of one record: channels first, then any positions.
        keep: channels that come out, at most as many as go in.
        norm: of what comes out, per record.
    """

    mean: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, shape: tuple[int, ...], keep: int, norm: float) -> None:
        super().__init__()
        if not shape or not 1 <= keep <= shape[0]:
            raise UsageError(
                f"Expected records with at least {keep} channels to keep, got shape {tuple(shape)}.",
                remedy="Lower `keep`.",
            )
        self.positions, self.norm = tuple(shape[1:]), norm
        self.register_buffer("mean", torch.zeros(shape[0], prod(shape[1:])))
        self.register_buffer("matrix", torch.eye(keep, shape[0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, ...] to [batch, keep, ...]."""
        a = of_norm(x, 1.0).reshape(len(x), *self.mean.shape)
        b = of_norm(torch.matmul(self.matrix, a - self.mean), self.norm)
        return b.reshape(len(x), -1, *self.positions)
