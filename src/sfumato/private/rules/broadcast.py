"""Elementwise use of a parameter with data: position tables, class tokens, layer scale, a learned temperature.

In y = x + theta or y = theta * x the parameter is broadcast over the batch; a unit's gradient is G, or G * x, summed
over the axes along which the parameter was repeated, but never over the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.errors import NotCaptured, UnsupportedModel
from sfumato.private.rules.base import Call, Function, Layout, Outcome, Rule, Term, rows_first

KINDS: dict[str, tuple[Function, ...]] = {
    "add": (torch.add, Tensor.add, Tensor.add_),
    "sub": (torch.sub, Tensor.sub, Tensor.sub_, torch.subtract, Tensor.subtract, Tensor.subtract_),
    "rsub": (torch.rsub,),
    "mul": (torch.mul, Tensor.mul, Tensor.mul_, torch.multiply, Tensor.multiply, Tensor.multiply_),
    "div": (
        torch.div, Tensor.div, Tensor.div_, torch.divide, Tensor.divide, Tensor.divide_,
        torch.true_divide, Tensor.true_divide, Tensor.true_divide_,
    ),
}  # fmt: skip


class Broadcast(Rule):
    """`input` and `other`, of which one is a parameter, in a sum, difference, product or quotient; in place as well."""

    name = "broadcast"
    signature = ("input", "other")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return tuple(function for kind in KINDS.values() for function in kind)

    def apply(self, call: Call) -> Outcome:
        kind = next(kind for kind, functions in KINDS.items() if call.function in functions)
        if call.get("rounding_mode") is not None:
            raise UnsupportedModel("Expected a quotient that is not rounded, got one.", remedy="Round afterwards.")
        seen = {name: self._seen(call, kind, name) for name in call.private}
        output = call.run()
        return Outcome(output, {name: self._term(call, kind, name, output, seen[name]) for name in call.private})

    def _seen(self, call: Call, kind: str, name: str) -> Tensor:
        """What the parameter meets; a copy where the operation is about to overwrite it."""
        met = call.bound["other" if name == "input" else "input"]
        value = met.detach() if isinstance(met, Tensor) else torch.as_tensor(met)
        overwritten = kind in ("mul", "div") and call.function.__name__.endswith("_")
        return value.clone() if overwritten else value

    def _term(self, call: Call, kind: str, name: str, output: Tensor, seen: Tensor) -> Term:
        value = call.bound[name]
        _refuse_one_per_row(call, value, output)
        if kind in ("mul", "div"):
            met = rows_first(seen.expand(output.shape), call.layout)
            if kind == "mul" or name == "input":
                return BroadcastProduct(value.shape, call.layout, output.dim(), met, divided=kind == "div")
            return BroadcastProduct(value.shape, call.layout, output.dim(), met, scale=-value.square().reciprocal())
        alpha = float(call.get("alpha", 1))
        minus = (kind == "sub" and name == "other") or (kind == "rsub" and name == "input")
        scaled = name == ("input" if kind == "rsub" else "other")
        return BroadcastSum(value.shape, call.layout, output.dim(), (alpha if scaled else 1.0) * (-1 if minus else 1))


class BroadcastSum(Term):
    """A tensor that was broadcast, or tiled, to the shape of the output and added.

    Args:
        shape: of the private tensor.
        layout: of the output.
        axes: of the output.
        scale: that it was multiplied with.
    """

    def __init__(self, shape: torch.Size, layout: Layout, axes: int, scale: float = 1.0) -> None:
        self.shape, self.layout, self.axes, self.scale = shape, layout, axes, scale

    def instantiate(self, grad: Tensor, units: int, way: str, out: Tensor | None = None) -> Tensor:
        found = unbroadcast(grad, self.shape, self.layout, self.axes, units)
        found = found if self.scale == 1.0 else found * self.scale
        return found if out is None else out.copy_(found)


class BroadcastProduct(Term):
    """A tensor that was broadcast to the shape of the output and multiplied with data.

    Args:
        shape: of the private tensor.
        layout: of the output.
        axes: of the output.
        met: what it was multiplied with, rows first, of the output's shape (a view where that was broadcast, too).
        divided: whether it was divided by `met` instead.
        scale: [*shape] to multiply the gradient with, or None.
    """

    def __init__(
        self,
        shape: torch.Size,
        layout: Layout,
        axes: int,
        met: Tensor,
        *,
        divided: bool = False,
        scale: Tensor | None = None,
    ) -> None:
        self.shape, self.layout, self.axes = shape, layout, axes
        self.saved, self.divided, self.scale = (met,), divided, scale

    def instantiate(self, grad: Tensor, units: int, way: str, out: Tensor | None = None) -> Tensor:
        product = grad / self.saved[0] if self.divided else grad * self.saved[0]
        found = unbroadcast(product, self.shape, self.layout, self.axes, units)
        found = found if self.scale is None else found * self.scale
        return found if out is None else out.copy_(found)


def unbroadcast(grad: Tensor, shape: torch.Size, layout: Layout, axes: int, units: int) -> Tensor:
    """The gradient of each unit with respect to a tensor that was broadcast or tiled to the output.

    Args:
        grad: G at the output, [rows * fold, ...], rows first.
        shape: of the tensor; its axes are the last ones of the output's.
        layout: of the output.
        axes: of the output.
        units: divides the rows.

    Returns:
        [units, *shape].
    """
    wide = [1] * (axes - len(shape)) + list(shape)
    own = wide.pop(layout.axis)
    split: list[int] = [units, len(grad) // units // layout.fold]
    for size, kept in zip((layout.fold, *grad.shape[1:]), (own, *wide), strict=True):
        split += [size // kept, kept]  # tiled: copies, then numbers; broadcast: all copies of one number
    summed = grad.reshape(split).sum(dim=[1, *range(2, len(split), 2)])
    return summed.reshape(units, own, *wide).movedim(1, layout.axis + 1).reshape(units, *shape)


def _refuse_one_per_row(call: Call, value: Tensor, output: Tensor) -> None:
    axis = call.layout.axis - (output.dim() - value.dim())
    if axis >= 0 and value.shape[axis] not in (1, call.layout.fold if call.rows == 1 else 1):
        raise NotCaptured(
            f"Expected a parameter without a batch axis at {call.function.__name__}, got one of shape "
            f"{tuple(value.shape)} with an entry for each of {call.rows} rows.",
            remedy="Repeat it over the batch with `expand`, which is followed.",
        )
