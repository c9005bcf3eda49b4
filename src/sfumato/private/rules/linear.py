"""Linear layers: g = G^T A per unit (Goodfellow, 2015, arXiv 1510.01799; Bu et al., 2022, arXiv 2210.00038)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import linear

from sfumato.private.rules.base import Call, Function, Instantiated, Outcome, Rule, Term, scaled_rows
from sfumato.private.rules.rounding import gram_norms
from sfumato.private.rules.sums import ChannelSum


class Linear(Rule):
    """`linear(input, weight, bias)` with any number of axes between rows and features."""

    name = "linear"
    signature = ("input", "weight", "bias")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (linear,)

    def apply(self, call: Call) -> Outcome:
        output, terms = call.run(), {}
        if "weight" in call.private:
            terms["weight"] = LinearWeight(call.rows_of("input"), call.bound["weight"])
        if "bias" in call.private:
            terms["bias"] = ChannelSum(call.bound["bias"].shape, -1)
        return Outcome(output, terms)


class LinearWeight(Term):
    """The weight [p, d] of a linear map, seen rows A [rows, ..., d].

    Args:
        seen: A.
        weight: its value, for the shape.
        transposed: whether the private tensor is the transpose, [d, p].
    """

    def __init__(self, seen: torch.Tensor, weight: torch.Tensor, *, transposed: bool = False) -> None:
        self.saved, self.transposed = (seen,), transposed
        self.shape = weight.shape

    def _flat(self, grad: torch.Tensor, units: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A [units, T, d] and G [units, T, p], swapped where the tensor is the transpose."""
        seen = self.saved[0]
        a, g = seen.reshape(units, -1, seen.shape[-1]).to(grad.dtype), grad.reshape(units, -1, grad.shape[-1])
        return (g, a) if self.transposed else (a, g)

    def ways(self, grad: torch.Tensor, units: int) -> tuple[str, ...]:
        a, _ = self._flat(grad, units)
        return ("gram",) if a.shape[1] == 1 else ("gram", "product", "each")

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        a, g = self._flat(grad, units)
        if way != "each":
            return torch.bmm(g.transpose(1, 2), a) if out is None else torch.bmm(g.transpose(1, 2), a, out=out)
        return self.with_norms(grad, units, way, out).gradients

    def with_norms(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> Instantiated:
        if way != "each":
            return super().with_norms(grad, units, way, out)
        a, g = self._flat(grad, units)
        out = g.new_empty(units, *self.shape) if out is None else out
        norms = g.new_empty(units)
        for unit in range(units):
            torch.mm(g[unit].T, a[unit], out=out[unit])
            torch.linalg.vector_norm(out[unit], out=norms[unit])
        return Instantiated(out, norms.square_())

    def squared_norms(self, grad: torch.Tensor, units: int, way: str) -> torch.Tensor:
        a, g = self._flat(grad, units)
        if a.shape[1] == 1:
            squares = torch.linalg.vector_norm(a[:, 0], dim=1).square_()
            return squares.mul_(torch.linalg.vector_norm(g[:, 0], dim=1).square_())
        return gram_norms(torch.bmm(a, a.transpose(1, 2)), torch.bmm(g, g.transpose(1, 2)))

    def weighted_sum(self, grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        a, g = self._flat(grad, len(factors))
        if a.shape[-1] < g.shape[-1]:
            a = scaled_rows(a, factors)
        else:
            g = scaled_rows(g, factors)
        return g.reshape(-1, g.shape[-1]).T @ a.reshape(-1, a.shape[-1])

    @classmethod
    def joined(
        cls, terms: Sequence[Any], grads: Sequence[torch.Tensor], units: int
    ) -> tuple[Term, torch.Tensor] | None:
        """Uses of one weight are more positions of each unit."""
        if not all(isinstance(term, LinearWeight) for term in terms):
            return None
        parts = [term._flat(grad, units) for term, grad in zip(terms, grads, strict=True)]
        seen, grad = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return LinearWeight(seen, torch.empty(terms[0].shape, device="meta")), grad
