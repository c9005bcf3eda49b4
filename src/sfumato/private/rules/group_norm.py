"""Group normalisation: one call of the library's kernel gives the input's gradient and every row's scale and shift.

With the rows folded into the channels, each row has channels and a scale of its own; the kernel's gradient of the
repeated scale is the gradient of each row, at the price of the ordinary backward pass.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from sfumato.errors import NotPrivateError
from sfumato.private.rules.affine import SCALE, SHIFT, Normalised, affine_terms, refuse_computed
from sfumato.private.rules.base import Call, Function, Layout, Outcome, Rule, rows_first

INPUT = "input"


class GroupNorm(Rule):
    """`group_norm(input, num_groups, weight, bias, eps)`."""

    name = "group-norm"
    signature = ("input", "num_groups", "weight", "bias", "eps", "cudnn_enabled")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (F.group_norm, torch.group_norm)

    def apply(self, call: Call) -> Outcome:
        return normalised_in_groups(call, call.bound["num_groups"])


class Statistics(NamedTuple):
    """Of each row and group, [rows, groups]."""

    mean: torch.Tensor
    rstd: torch.Tensor


class Gradients(NamedTuple):
    """Of the input (meaningless where not asked for), and of scale and shift for each row, [rows, channels]."""

    inner: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


def normalised_in_groups(call: Call, groups: int) -> Outcome:
    """Run a normalisation of [rows, channels, ...] over groups of channels and all positions."""
    seen = _full_precision(call)
    weight, bias = call.bound.get("weight"), call.bound.get("bias")
    refuse_computed(call)
    with torch.autocast(seen.device.type, enabled=False):
        kept = InGroups(seen.detach(), weight, groups, differentiable=seen.requires_grad)
        output = call.ran(_InGroups.apply(seen, weight, bias, call.get("eps", 1e-5), kept))
    if call.layout.axis != 0:
        raise NotPrivateError(
            f"Expected the rows of the batch in front of {call.function.__name__}, got axis {call.layout.axis}, "
            "where its statistics mix them.",
            remedy="Keep the batch axis in front of normalisation layers.",
        )
    return Outcome(output, affine_terms(call, kept.rows_first(call.layout)))


class InGroups(Normalised):
    """A normalisation over groups of channels, and the gradient of its input.

    Args:
        seen: [rows, channels, ...], contiguous.
        weight: the scale, or None.
        groups: of channels.
        differentiable: whether the input's gradient will be asked for.
    """

    def __init__(self, seen: torch.Tensor, weight: torch.Tensor | None, groups: int, *, differentiable: bool) -> None:
        super().__init__(seen)
        self.weight, self.groups, self.differentiable = weight, groups, differentiable
        self.statistics = Statistics(seen, seen)  # until the forward pass has run
        self.wanted |= {INPUT} if differentiable else set()

    def rows_first(self, layout: Layout) -> InGroups:
        """The same with rows in front, as G comes to the terms; where they were already, itself."""
        if not layout.interleaved:
            return self
        moved = InGroups(rows_first(self.seen, layout), self.weight, self.groups, differentiable=False)
        moved.statistics = Statistics(*(rows_first(part, layout) for part in self.statistics))
        return moved

    def found(self, grad: torch.Tensor) -> dict[str, torch.Tensor]:
        inner = self.differentiable and grad.dtype == self.seen.dtype
        gradients = folded(self.seen, grad, self.statistics, self.weight, inner=inner)
        sums = {SCALE: gradients.scale, SHIFT: gradients.shift}
        return sums | {INPUT: gradients.inner.view_as(self.seen)} if inner else sums


class _InGroups(torch.autograd.Function):
    """The normalisation; its backward pass shares the kernel's call with the terms of scale and shift."""

    @staticmethod
    def forward(ctx: Any, seen: torch.Tensor, weight: Any, bias: Any, eps: float, kept: InGroups) -> torch.Tensor:
        rows, channels, *positions = seen.shape
        output, mean, rstd = torch.native_group_norm(
            seen, weight, bias, rows, channels, prod(positions), kept.groups, eps
        )
        kept.statistics = Statistics(mean, rstd)
        ctx.kept = kept
        return output

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        return ctx.kept.take(INPUT, grad), None, None, None, None


def folded(
    seen: torch.Tensor, grad: torch.Tensor, statistics: Statistics, weight: torch.Tensor | None, *, inner: bool = False
) -> Gradients:
    """The library's kernel on [1, rows * channels, positions].

    Args:
        seen: [rows, channels, ...].
        grad: G, the same shape.
        statistics: of each row and group.
        weight: the scale [channels], or None.
        inner: whether the input's gradient is wanted.
    """
    rows, channels = seen.shape[:2]
    wide, positions = rows * channels, prod(seen.shape[2:])
    gamma = seen.new_ones(channels, dtype=grad.dtype) if weight is None else weight.detach().to(grad.dtype)
    into, scale, shift = torch.ops.aten.native_group_norm_backward(
        grad.reshape(1, wide, positions), seen.to(grad.dtype).reshape(1, wide, positions),
        statistics.mean.to(grad.dtype).reshape(1, -1), statistics.rstd.to(grad.dtype).reshape(1, -1),
        gamma.repeat(rows), 1, wide, positions, statistics.mean.numel(), [inner, True, True],
    )  # fmt: skip
    return Gradients(into, scale.view(rows, channels), shift.view(rows, channels))


def _full_precision(call: Call) -> torch.Tensor:
    """The input as the kernel takes it: contiguous, and in float32 where autocast would have made it so."""
    seen = call.bound["input"].contiguous()
    autocast = torch.is_autocast_enabled(seen.device.type)
    return seen.float() if autocast and seen.dtype in (torch.float16, torch.bfloat16) else seen
