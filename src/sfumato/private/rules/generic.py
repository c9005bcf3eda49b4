"""The fallback for any operation without a rule: the operation itself, differentiated for each row by `vmap`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from sfumato.errors import NotCaptured
from sfumato.private.rules.base import Call, Function, Layout, Outcome, Rule, Term, rows_first


class Generic(Rule):
    """Exact for every differentiable operation that treats rows independently and draws no random numbers.

    Arguments are named by their place among all leaves of the call, so that lists of tensors are covered.
    """

    name = ""  # the fallback: not discovered under any function

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return ()

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        leaves, _ = tree_flatten((tuple(args), kwargs))
        return {str(position): leaf for position, leaf in enumerate(leaves)}

    def apply(self, call: Call) -> Outcome:
        name = getattr(call.function, "__name__", str(call.function))
        if (name.endswith("_") and not name.endswith("__")) or name == "__setitem__":
            raise _not_alone(name, "it overwrites its input")
        device = call.bound[call.private[0]].device
        before = _random_state(device)
        output = call.function(*call.args, **call.kwargs)
        if not isinstance(output, Tensor):
            raise _not_alone(name, f"it gives {type(output).__name__} and not one tensor")
        if not (output.is_floating_point() or output.is_complex()):
            return Outcome(output, {})
        if not torch.equal(before, _random_state(device)):
            raise _not_alone(name, "it draws random numbers")
        call.ran(output)
        return Outcome(output, {argument: GenericTerm(call, argument) for argument in call.private})


class GenericTerm(Term):
    """One private argument of any operation.

    Args:
        call: after it ran.
        name: of the argument.
    """

    def __init__(self, call: Call, name: str) -> None:
        self.call, self.name = call, name
        self.shape = call.bound[name].shape
        self.spec = tree_flatten((call.args, call.kwargs))[1]
        tensors = {n: v for n, v in call.bound.items() if isinstance(v, Tensor) and n not in call.private}
        self.data = [n for n, v in tensors.items() if call.layouts.get(id(v)) is not None]
        rest = tuple(v.detach() for n, v in tensors.items() if n not in self.data)
        self.saved = (*(rows_first(call.bound[n].detach(), self._known(n)) for n in self.data), *rest)

    def _known(self, name: str) -> Layout:
        layout = self.call.layouts[id(self.call.bound[name])]
        assert layout is not None
        return layout

    def instantiate(self, grad: Tensor, units: int, way: str, out: Tensor | None = None) -> Tensor:
        try:
            with torch.enable_grad():
                per_unit = self._by_row(grad, units) if self.data else self._by_unit(grad, units)
        except (RuntimeError, ValueError, IndexError) as error:
            name = getattr(self.call.function, "__name__", str(self.call.function))
            raise _not_alone(name, f"it cannot be run on each row alone: {str(error).splitlines()[0]}") from error
        return per_unit if out is None else out.copy_(per_unit)

    def _by_row(self, grad: Tensor, units: int) -> Tensor:
        rows = self.call.rows
        grads = grad.reshape(rows, -1, *grad.shape[1:])
        parts = tuple(saved.reshape(rows, -1, *saved.shape[1:]) for saved in self.saved[: len(self.data)])
        private = self.call.bound[self.name]
        per_row = torch.func.vmap(self._pullback, in_dims=(None, 0, *(0 for _ in parts)))(private, grads, *parts)
        return per_row.reshape(units, -1, *self.shape).sum(dim=1)

    def _by_unit(self, grad: Tensor, units: int) -> Tensor:
        """Made of parameters alone with one part per row: G of the other units is zero."""
        private, layout = self.call.bound[self.name], self.call.layout
        output, pull, *_ = torch.func.vjp(lambda value: self._run({self.name: value}), private)
        found = private.new_empty(units, *self.shape)
        rows = len(grad) // units
        for unit in range(units):
            alone = torch.zeros_like(grad, dtype=output.dtype)
            alone[unit * rows : (unit + 1) * rows] = grad[unit * rows : (unit + 1) * rows]
            found[unit] = pull(_rows_placed(alone, layout))[0]
        return found

    def _pullback(self, private: Tensor, grad: Tensor, *parts: Tensor) -> Tensor:
        placed = {n: part.movedim(0, self._known(n).axis) for n, part in zip(self.data, parts, strict=True)}

        def run(value: Tensor) -> Tensor:
            return rows_first(self._run(placed | {self.name: value}), self.call.layout)

        output, pull, *_ = torch.func.vjp(run, private)
        return pull(grad.to(output.dtype))[0]

    def _run(self, changed: dict[str, Tensor]) -> Tensor:
        leaves = [changed.get(n, v.detach() if isinstance(v, Tensor) else v) for n, v in self.call.bound.items()]
        args, kwargs = tree_unflatten(leaves, self.spec)
        return self.call.function(*args, **kwargs)


def _rows_placed(first: Tensor, layout: Layout) -> Tensor:
    """The inverse of `rows_first`."""
    if layout.interleaved:
        first = first.unflatten(0, (-1, layout.fold)).transpose(0, 1).flatten(0, 1)
    return first.movedim(0, layout.axis)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _not_alone(name: str, reason: str) -> NotCaptured:
    return NotCaptured(
        f"Expected an operation on a parameter that can be differentiated row by row, got {name}: {reason}.",
        remedy="Write it with operations that treat rows alike, or train with a loop of single examples "
        "(`method='loop'`).",
    )
