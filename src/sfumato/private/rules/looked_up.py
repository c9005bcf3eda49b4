"""Rows of a table that were looked up (g has the sum of G over the positions that named a row), and a head tied to it.

No gradient of a unit is ever written down: positions of a unit that named the same row are found by sorting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sfumato.private.rules.base import Term, scaled_rows
from sfumato.private.rules.linear import LinearWeight
from sfumato.private.rules.rounding import SLACK


class LookedUp(Term):
    """A table [n, d] of which rows were looked up.

    Args:
        index: of the row that each position named, [rows, ...].
        weight: the table's value, for the shape.
        factors: of each position, of the shape of the index; None for ones. Positions with a factor of 0 do not count.
    """

    def __init__(self, index: torch.Tensor, weight: torch.Tensor, factors: torch.Tensor | None = None) -> None:
        self.saved = (index,) if factors is None else (index, factors)
        self.shape = weight.shape

    def ways(self, grad: torch.Tensor, units: int) -> tuple[str, ...]:
        return ("gram",)

    def flat(self, grad: torch.Tensor, units: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Index [units, positions], and G times the factors [units, positions, d]."""
        index = self.saved[0].reshape(units, -1)
        each = grad.reshape(units, -1, grad.shape[-1])
        if len(self.saved) == 1:
            return index, each
        factors = self.saved[1].to(grad.dtype).reshape(units, each.shape[1], -1, 1)
        return index, (each.unsqueeze(2) * factors).view(units, -1, grad.shape[-1])

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        index, each = self.flat(grad, units)
        out = grad.new_empty(units, *self.shape) if out is None else out
        out.zero_().view(-1, self.shape[1]).index_add_(0, self._places(index).flatten(), each.flatten(0, 1))
        return out

    def _places(self, index: torch.Tensor) -> torch.Tensor:
        """One number for each unit and row of the table, [units, positions]."""
        return index + self.shape[0] * torch.arange(len(index), device=index.device).unsqueeze(1)

    def squared_norms(self, grad: torch.Tensor, units: int, way: str) -> torch.Tensor:
        index, each = self.flat(grad, units)
        places, segment = torch.unique(self._places(index), return_inverse=True)
        sums = each.new_zeros(len(places), self.shape[1]).index_add_(0, segment.flatten(), each.flatten(0, 1))
        lengths = torch.linalg.vector_norm(each, dim=2).flatten()
        absolute = lengths.new_zeros(len(places)).index_add_(0, segment.flatten(), lengths)
        squares = torch.linalg.vector_norm(sums, dim=1).square_()
        squares.add_(absolute.square_(), alpha=SLACK * torch.finfo(grad.dtype).eps)
        owners = torch.div(places, self.shape[0], rounding_mode="floor")
        return squares.new_zeros(units).index_add_(0, owners, squares)

    def weighted_sum(self, grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        index, each = self.flat(scaled_rows(grad, factors), len(factors))
        return grad.new_zeros(self.shape).index_add_(0, index.flatten(), each.flatten(0, 1))

    @classmethod
    def joined(
        cls, terms: Sequence[Any], grads: Sequence[torch.Tensor], units: int
    ) -> tuple[Term, torch.Tensor] | None:
        """Look-ups are more positions of each unit; heads beside them make a tied table."""
        looked = [(t, g) for t, g in zip(terms, grads, strict=True) if type(t) is LookedUp]
        heads = [(t, g) for t, g in zip(terms, grads, strict=True) if isinstance(t, LinearWeight)]
        if not looked or len(looked) + len(heads) < len(terms):
            return None
        flat = [term.flat(grad, units) for term, grad in looked]
        index, into = torch.cat([i for i, _ in flat], dim=1), torch.cat([g for _, g in flat], dim=1)
        table = LookedUp(index, torch.empty(terms[0].shape, device="meta"))
        if not heads:
            return table, into
        one = LinearWeight.joined([t for t, _ in heads], [g for _, g in heads], units)
        assert one is not None
        head, logits = one
        return Tied(table, into, head), logits


class Tied(Term):
    """A table that is looked up, and is the weight of a linear map too: ||e + h||^2 = ||e||^2 + ||h||^2 + 2 <e, h>.

    With x_t the row named at position t, U the gradient there, b_s and h_s the gradient and input of the head at its
    position s, <e, h> = sum over t, s of b_s[x_t] <u_t, h_s>.

    What both parts add for rounding is enough for the whole: it bounds a square and b square, and so 2 a b.

    Args:
        table: look-ups of each unit.
        into: U, [units, positions, d].
        head: the linear map; its G is the gradient of the term.
    """

    def __init__(self, table: LookedUp, into: torch.Tensor, head: Term) -> None:
        self.table, self.head, self.shape = table, head, head.shape
        self.saved = (*table.saved, into, *head.saved)

    def ways(self, grad: torch.Tensor, units: int) -> tuple[str, ...]:
        return ("gram", "product")

    def _parts(self) -> tuple[LookedUp, torch.Tensor, Term]:
        """Table, U and head with what is saved now."""
        index, into, seen = self.saved
        self.table.saved, self.head.saved = (index,), (seen,)
        return self.table, into, self.head

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        table, into, head = self._parts()
        total = head.instantiate(grad, units, "product", out)
        return total.add_(table.instantiate(into, units, "dense"))

    def squared_norms(self, grad: torch.Tensor, units: int, way: str) -> torch.Tensor:
        table, into, head = self._parts()
        index, seen = table.saved[0].unsqueeze(1), head.saved[0].reshape(units, -1, self.shape[1]).to(grad.dtype)
        logits = grad.reshape(units, -1, self.shape[0])
        named = logits.gather(2, index.expand(-1, logits.shape[1], -1))  # b_s[x_t] at [unit, s, t]
        cross = torch.linalg.vecdot(named.flatten(1), torch.bmm(seen, into.transpose(1, 2)).flatten(1))
        apart = table.squared_norms(into, units, way) + head.squared_norms(grad, units, way)
        return (apart + 2 * cross).clamp_(min=0)

    def weighted_sum(self, grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        table, into, head = self._parts()
        return head.weighted_sum(grad, factors).add_(table.weighted_sum(into, factors))
