"""The gradient of something that was added: the sum of G over all axes but the tensor's own."""

from __future__ import annotations

import torch

from sfumato.private.rules.base import Term


class ChannelSum(Term):
    """A bias of one axis: g = sum of G over rows and positions.

    Args:
        shape: of the bias, [channels].
        axis: of the channels in G.
    """

    def __init__(self, shape: torch.Size, axis: int) -> None:
        self.shape, self.axis = shape, axis

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        axis = self.axis % grad.dim()
        others = [i for i in range(1, grad.dim()) if i != axis]
        per_row = grad.sum(dim=others) if others else grad
        per_unit = per_row.reshape(units, -1, self.shape[0]).sum(dim=1) if len(per_row) != units else per_row
        return per_unit if out is None else out.copy_(per_unit)
