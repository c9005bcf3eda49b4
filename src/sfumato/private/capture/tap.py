"""Reading the gradient at a tensor without changing the tensor's type, storage or place in the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Reader = Callable[[torch.Tensor], None]


def tapped(output: torch.Tensor, reader: Reader) -> torch.Tensor:
    """The output, with `reader` called with the gradient of the loss at it during the backward pass.

    A hook on the tensor is told the gradient before any later in-place operation, so `relu(inplace=True)` is fine.
    Where no gradient would flow (the first layer: neither data nor detached weights ask for one) a node is added.
    """
    if output.requires_grad:
        output.register_hook(reader)
        return output
    anchor = torch.zeros((), requires_grad=True)
    return _Alias.apply(output, anchor, reader) if output._is_view() else _Source.apply(output, anchor, reader)


class _Source(torch.autograd.Function):
    """The output itself becomes the result of this node: no copy, no view."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, anchor: torch.Tensor, reader: Reader) -> torch.Tensor:
        ctx.mark_dirty(output)
        ctx.reader = reader
        return output

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        ctx.reader(grad)
        return None, None, None


class _Alias(torch.autograd.Function):
    """For outputs that are views already (an expanded parameter)."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, anchor: torch.Tensor, reader: Reader) -> torch.Tensor:
        ctx.reader = reader
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        ctx.reader(grad)
        return None, None, None
