"""Into the box without a dead gradient."""

from __future__ import annotations

from typing import Any

import torch

from sfumato.targets.boundary import Box

LEAK = 0.1  # share of the gradient that passes where a value was moved


def into_box(x: torch.Tensor, box: Box) -> torch.Tensor:
    """Each value of x [b, *shape] moved to the nearest one in the box.

    The gradient is that of the identity inside the box, and `LEAK` of it where a value was moved, so that an optimiser
    can bring values back that have left it; the exact gradient there is 0.
    """
    return _IntoBox.apply(x, box.low.to(x), box.high.to(x))  # type: ignore[no-any-return]


class _IntoBox(torch.autograd.Function):
    """`torch.clamp` with a leak. Linear in the gradient, so it can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward((x < low) | (x > high))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (moved,) = ctx.saved_tensors
        (gradient,) = grad_outputs
        return torch.where(moved, LEAK * gradient, gradient), None, None
