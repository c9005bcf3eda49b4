"""Convolutions in one to three dimensions: the gradient of each unit, or its norm alone, by the cheapest exact way.

- "kernel": the library's own weight-gradient kernel, once per unit;
- "columns", "rows": patches times G, batched (per group), with the patches laid out either way;
- "gram": no gradient at all: with K the Gram matrix of the padded pixels, the Gram matrix of the patches is the sum of
  K over the kernel's offsets, so patches are never written down (two dimensions, small maps).
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F

from sfumato.errors import UnsupportedModel
from sfumato.private.rules.base import Call, Function, Instantiated, Outcome, Rule, Term, scaled_rows
from sfumato.private.rules.rounding import gram_norms
from sfumato.private.rules.sums import ChannelSum

CACHED = 1 << 18  # numbers of patches that are made at a time
GRAM_PIXELS = 600  # beyond that many padded pixels the Gram matrix of the pixels is never the cheapest


class Geometry(NamedTuple):
    """Of a convolution; one number per spatial axis, but `groups`."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = ()


class Conv(Rule):
    """`conv1d`, `conv2d`, `conv3d`; other padding modes pad first, and are seen here without padding."""

    name = "conv"
    signature = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.conv1d, torch.conv2d, torch.conv3d)

    def apply(self, call: Call) -> Outcome:
        output, weight = call.run(), call.bound["weight"]
        axes = weight.dim() - 2
        seen = _batched(call, axes)
        stride, dilation = (_each(call.get(name, 1), axes) for name in ("stride", "dilation"))
        before, after = _padding(call.get("padding", 0), weight.shape[2:], dilation)
        if before != after:
            seen = F.pad(seen, [size for pair in zip(before[::-1], after[::-1], strict=True) for size in pair])
            before = (0,) * axes
        geometry = Geometry(stride, before, dilation, call.get("groups", 1))
        return Outcome(output, _terms(call, ConvWeight(seen, weight, geometry)))


class ConvTransposed(Rule):
    """`conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`."""

    name = "conv-transposed"
    signature = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)

    def apply(self, call: Call) -> Outcome:
        output, weight = call.run(), call.bound["weight"]
        axes = weight.dim() - 2
        stride, padding, output_padding, dilation = (
            _each(call.get(name, default), axes)
            for name, default in (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1))
        )
        geometry = Geometry(stride, padding, dilation, call.get("groups", 1), True, output_padding)
        return Outcome(output, _terms(call, ConvWeight(_batched(call, axes), weight, geometry)))


class ConvWeight(Term):
    """The weight of a convolution, [p, d / groups, *kernel] (transposed: [d, p / groups, *kernel]).

    Args:
        seen: A, [rows, channels, *positions].
        weight: its value; only its shape and type are used.
        geometry: with the same padding on both sides.
    """

    def __init__(self, seen: torch.Tensor, weight: torch.Tensor, geometry: Geometry) -> None:
        self.saved, self.weight, self.geometry = (seen,), weight, geometry
        self.shape = weight.shape

    def ways(self, grad: torch.Tensor, units: int) -> tuple[str, ...]:
        g, two = self.geometry, self.weight.dim() == 4 and not self.geometry.transposed
        if not two:
            return ("kernel",)
        pixels = prod(size + 2 * pad for size, pad in zip(self.saved[0].shape[2:], g.padding, strict=True))
        ways = ("kernel", "columns", "rows")
        return (*ways, "gram") if pixels <= GRAM_PIXELS and len(grad) == units else ways

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        return self.with_norms(grad, units, way, out).gradients

    def with_norms(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> Instantiated:
        out = grad.new_empty(units, *self.shape) if out is None else out
        norms = grad.new_empty(units)
        if way in ("columns", "rows"):
            self._patched(grad, units, out, norms, rows_first=way == "rows")
        else:
            self._each_unit(grad, units, out, norms)
        return Instantiated(out, norms.square_())

    def _each_unit(self, grad: torch.Tensor, units: int, out: torch.Tensor, norms: torch.Tensor) -> None:
        rows = len(grad) // units
        for unit in range(units):
            here = slice(unit * rows, (unit + 1) * rows)
            found = self._summed(grad[here], self.saved[0][here])
            out[unit] = found
            torch.linalg.vector_norm(found, out=norms[unit])

    def _patched(
        self, grad: torch.Tensor, units: int, out: torch.Tensor, norms: torch.Tensor, *, rows_first: bool
    ) -> None:
        """Patches times G, a few units at a time, so that patches stay in the cache.

        The order of the patches' axes decides how they are copied and multiplied; which is faster depends on the shape.
        """
        rows, groups = len(grad) // units, self.geometry.groups
        padded = self._padded(grad.dtype)
        per_unit = rows * prod(grad.shape[2:]) * prod(self.shape[1:]) * groups
        step = max(1, CACHED // per_unit)
        for first in range(0, units, step):
            here = slice(first * rows, min(first + step, units) * rows)
            g = _by_unit(grad[here], rows, groups)  # [units, groups, p, T]
            seen = patches(padded[here], self.shape[2:], self.geometry, grad.shape[2:], rows, rows_first=rows_first)
            target = out[first : first + step].view(-1, self.shape[0] // groups, prod(self.shape[1:]))
            torch.bmm(g.flatten(0, 1), seen if rows_first else seen.transpose(1, 2), out=target)
            made = out[first : first + step]
            torch.linalg.vector_norm(made.view(len(made), -1), dim=1, out=norms[first : first + step])

    def _padded(self, dtype: torch.dtype) -> torch.Tensor:
        return F.pad(self.saved[0].to(dtype), [pad for pad in self.geometry.padding[::-1] for _ in range(2)])

    def squared_norms(self, grad: torch.Tensor, units: int, way: str) -> torch.Tensor:
        geometry, padded = self.geometry, self._padded(grad.dtype)
        x = padded.reshape(units * geometry.groups, -1, *padded.shape[2:])
        g = grad.reshape(units * geometry.groups, self.shape[0] // geometry.groups, -1)
        patches = patch_gram(x, self.shape[2:], geometry, grad.shape[2:])
        return gram_norms(patches, torch.bmm(g.transpose(1, 2), g)).view(units, -1).sum(1)

    def weighted_sum(self, grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        return self._summed(scaled_rows(grad, factors), self.saved[0])

    def _summed(self, grad: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        g = self.geometry
        output_padding = g.output_padding or (0,) * len(g.stride)
        return torch.ops.aten.convolution_backward(
            grad, seen.to(grad.dtype), self.weight.to(grad.dtype), None, g.stride, g.padding, g.dilation, g.transposed,
            output_padding, g.groups, [False, True, False],
        )[1]  # fmt: skip


def patches(
    padded: torch.Tensor,
    kernel: torch.Size,
    geometry: Geometry,
    positions: torch.Size,
    rows: int,
    *,
    rows_first: bool,
) -> torch.Tensor:
    """What each output position of a two-dimensional convolution sees, copied once through strides.

    Args:
        padded: [units * rows, channels, H, W].
        kernel: its two sides.
        geometry: stride, dilation and groups are used.
        positions: of the output, (h, w).
        rows: per unit; their positions are joined.
        rows_first: [units * groups, rows * h * w, channels / groups * k], else the last two axes swapped.
    """
    n, channels, _, _ = padded.shape
    of_row, of_channel, down, right = padded.stride()
    groups, (s, t), (d, e) = geometry.groups, geometry.stride, geometry.dilation
    view = padded.as_strided(
        (n // rows, rows, groups, channels // groups, *kernel, *positions),
        (rows * of_row, of_row, channels // groups * of_channel, of_channel, down * d, right * e, down * s, right * t),
        padded.storage_offset(),
    )
    columns = prod(kernel) * (channels // groups)
    if rows_first:
        return view.permute(0, 2, 1, 6, 7, 3, 4, 5).reshape(n // rows * groups, -1, columns)
    return view.permute(0, 2, 3, 4, 5, 1, 6, 7).reshape(n // rows * groups, columns, -1)


def _by_unit(grad: torch.Tensor, rows: int, groups: int) -> torch.Tensor:
    """G [units * rows, p, *positions] as [units, groups, p / groups, rows * T]."""
    parts = grad.reshape(len(grad) // rows, rows, groups, grad.shape[1] // groups, -1)
    return parts.permute(0, 2, 3, 1, 4).reshape(len(parts), groups, parts.shape[3], -1)


def patch_gram(x: torch.Tensor, kernel: torch.Size, geometry: Geometry, positions: torch.Size) -> torch.Tensor:
    """Gram matrix of the patches of a convolution, from the Gram matrix of the pixels.

    With U the patches and K = X^T X over channels, (U U^T)[t, s] = sum over kernel offsets o of K[t + o, s + o].

    Args:
        x: padded pixels [n, channels, H, W].
        kernel: its two sides.
        geometry: stride and dilation are used.
        positions: of the output, (h, w).

    Returns:
        [n, h * w, h * w].
    """
    n, _, height, width = x.shape
    pixels = x.flatten(2)
    gram = torch.bmm(pixels.transpose(1, 2), pixels).view(n, height, width, height, width)
    total: torch.Tensor | None = None
    for offsets in product(range(kernel[0]), range(kernel[1])):
        first, second = (
            slice(o * d, o * d + (size - 1) * s + 1, s)
            for o, d, s, size in zip(offsets, geometry.dilation, geometry.stride, positions, strict=True)
        )
        part = gram[:, first, second, first, second]
        total = part.clone(memory_format=torch.contiguous_format) if total is None else total.add_(part)
    assert total is not None
    return total.view(n, prod(positions), prod(positions))


def _terms(call: Call, weight: ConvWeight) -> dict[str, Term]:
    terms: dict[str, Term] = {"weight": weight} if "weight" in call.private else {}
    if "bias" in call.private:
        terms["bias"] = ChannelSum(call.bound["bias"].shape, 1)
    return terms


def _batched(call: Call, axes: int) -> torch.Tensor:
    seen = call.bound["input"]
    if seen.dim() != axes + 2 or call.layout.axis != 0:
        raise UnsupportedModel(
            f"Expected a batch [rows, channels, ...] with {axes + 2} axes at {call.function.__name__}, got "
            f"{tuple(seen.shape)}.",
            remedy="Keep the batch axis in front of convolutions.",
        )
    return call.rows_of("input")


def _each(value: int | tuple[int, ...] | list[int], axes: int) -> tuple[int, ...]:
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * axes if len(numbers) == 1 else numbers


def _padding(
    value: int | str | tuple[int, ...], kernel: torch.Size, dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after; "same" with an even reach has one more after."""
    if not isinstance(value, str):
        both = _each(value, len(kernel))
        return both, both
    if value == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
