"""The fallback for any operation without a rule: the operation itself, differentiated for each row by `vmap`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sfumato.errors import UnsupportedModel
from sfumato.private.rules.base import Call, Function, Layout, Outcome, Rule, Term, rows_first


class Generic(Rule):
    """Exact for every differentiable operation that treats rows independently and draws no random numbers."""

    name = ""  # the fallback: not discovered under any function

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return ()

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        return {str(position): value for position, value in enumerate(args)} | kwargs

    def apply(self, call: Call) -> Outcome:
        output = call.run()
        if not isinstance(output, torch.Tensor):
            raise UnsupportedModel(
                f"Expected one tensor from {call.function.__name__}, got {type(output).__name__}.",
                remedy="Train with a loop of single examples (`method='loop'`).",
            )
        return Outcome(output, {name: GenericTerm(call, name) for name in call.private})


class GenericTerm(Term):
    """One private argument of any operation.

    Args:
        call: after it ran.
        name: of the argument.
    """

    def __init__(self, call: Call, name: str) -> None:
        self.call, self.name = call, name
        self.shape = call.bound[name].shape
        self.data = [n for n, v in call.bound.items() if isinstance(v, torch.Tensor) and self._layout(v) is not None]
        self.saved = tuple(rows_first(call.bound[n].detach(), self._known(call.bound[n])) for n in self.data)

    def _layout(self, value: torch.Tensor) -> Layout | None:
        return self.call.layouts.get(id(value))

    def _known(self, value: torch.Tensor) -> Layout:
        layout = self._layout(value)
        assert layout is not None
        return layout

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        rows = self.call.rows
        grads = grad.reshape(rows, -1, *grad.shape[1:])
        parts = tuple(saved.reshape(rows, -1, *saved.shape[1:]) for saved in self.saved)
        private = self.call.bound[self.name]
        with torch.enable_grad():
            per_row = torch.func.vmap(self._pullback, in_dims=(None, 0, *(0 for _ in parts)))(private, grads, *parts)
        per_unit = per_row.reshape(units, -1, *self.shape).sum(dim=1)
        return per_unit if out is None else out.copy_(per_unit)

    def _pullback(self, private: torch.Tensor, grad: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        def run(value: torch.Tensor) -> torch.Tensor:
            here = dict(zip(self.data, parts, strict=True))
            placed = {
                n: part.movedim(0, self._known(self.call.bound[n]).axis) for n, part in here.items()
            } | {self.name: value}
            bound = self.call.bound | placed
            count = len(self.call.args)
            positional = [bound[str(i)] for i in range(count)]
            output = self.call.function(*positional, **{n: bound[n] for n in self.call.kwargs})
            return rows_first(output, self.call.layout)

        return torch.func.vjp(run, private)[1](grad.to(private.dtype))[0]
