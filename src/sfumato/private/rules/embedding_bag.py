"""Sums, means and maxima of the rows of a table, a bag of rows at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sfumato.errors import NotPrivateError, UnsupportedModel
from sfumato.private.rules.base import Call, Function, Outcome, Rule, Term, rows_first, scaled_rows
from sfumato.private.rules.embedding import factors_of, refuse_coupled
from sfumato.private.rules.looked_up import LookedUp


class EmbeddingBag(Rule):
    """`embedding_bag` of `torch.nn.functional`: bags of equal length, each mode, weights per position, padding."""

    name = "embedding-bag"
    signature = (
        "input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse",
        "per_sample_weights", "include_last_offset", "padding_idx",
    )  # fmt: skip

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (F.embedding_bag,)

    def apply(self, call: Call) -> Outcome:
        refuse_coupled(call)
        if call.private != ("weight",):
            raise UnsupportedModel(
                f"Expected the table of embedding_bag to be its only private tensor, got {call.private}.",
                remedy="Train with a loop of single examples (`method='loop'`).",
            )
        index = _bags(call)
        return _largest(call, index) if call.get("mode", "mean") == "max" else _added(call, index)


class Largest(Term):
    """A table [n, d] of which each bag took the largest number per column.

    Args:
        index: of the row that each column came from, [rows, d].
        counted: 1, or 0 where a bag was empty, [rows, d].
        weight: the table's value, for the shape.
    """

    def __init__(self, index: torch.Tensor, counted: torch.Tensor, weight: torch.Tensor) -> None:
        self.saved, self.shape = (index, counted), weight.shape

    def ways(self, grad: torch.Tensor, units: int) -> tuple[str, ...]:
        return ("gram",)

    def _numbers(self, grad: torch.Tensor) -> LookedUp:
        """The table as one of rows of one number, of which each column of a bag named one."""
        columns = torch.arange(self.shape[1], device=grad.device)
        return LookedUp(self.saved[0] * self.shape[1] + columns, torch.empty(self.shape.numel(), 1, device="meta"))

    def _values(self, grad: torch.Tensor) -> torch.Tensor:
        return (grad * self.saved[1].to(grad.dtype)).unsqueeze(-1)

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        found = self._numbers(grad).instantiate(self._values(grad), units, way).view(units, *self.shape)
        return found if out is None else out.copy_(found)

    def squared_norms(self, grad: torch.Tensor, units: int, way: str) -> torch.Tensor:
        return self._numbers(grad).squared_norms(self._values(grad), units, way)

    def weighted_sum(self, grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        values = self._values(scaled_rows(grad, factors))
        return self._numbers(grad).weighted_sum(values, torch.ones_like(factors)).view(self.shape)


def _bags(call: Call) -> torch.Tensor:
    """The index by bags, [bags, positions]."""
    given, offsets = call.bound["input"], call.get("offsets")
    if offsets is None:
        return given
    starts = offsets[:-1] if call.get("include_last_offset", False) else offsets
    length = given.numel() // max(len(starts), 1)
    last = len(starts) * length
    if given.numel() != last or not torch.equal(offsets, torch.arange(len(offsets)).to(offsets) * length):
        raise NotPrivateError(
            f"Expected bags of equal length, so that the rows of a batch can be told apart, got {given.numel()} "
            f"positions in {len(starts)} bags that start at {offsets.tolist()}.",
            remedy="Pass the bags as [rows, positions], filled up with a `padding_idx`.",
        )
    return given.view(len(starts), length)


def _added(call: Call, bags: torch.Tensor) -> Outcome:
    """Sums and means: a factor for each position."""
    output, weight = call.run(), call.bound["weight"]
    index, per_sample = rows_first(bags, call.layout), call.get("per_sample_weights")
    factors = factors_of(index, weight, call.bound.get("padding_idx"))
    factors = torch.ones_like(index, dtype=weight.dtype) if factors is None else factors
    if per_sample is not None:
        factors = factors * rows_first(per_sample.detach().view(bags.shape), call.layout)
    if call.get("mode", "mean") == "mean":
        factors = factors / factors.sum(dim=1, keepdim=True).clamp(min=1)
    return Outcome(output, {"weight": LookedUp(index, weight, factors)})


def _largest(call: Call, bags: torch.Tensor) -> Outcome:
    """Maxima: torch says which row each number came from."""
    weight, padding = call.bound["weight"], call.bound.get("padding_idx")
    padding = None if padding is None else padding % len(weight)
    if call.get("per_sample_weights") is not None:
        call.run()  # torch refuses it, and says why
    offsets = torch.arange(len(bags), device=bags.device, dtype=bags.dtype) * bags.shape[1]
    output, _, sizes, named = torch.embedding_bag(
        weight, bags.reshape(-1), offsets, False, 2, False, None, False, padding
    )
    call.ran(output)
    counted = rows_first(sizes.ne(0).unsqueeze(1).expand(output.shape).to(weight.dtype), call.layout)
    index = rows_first(named, call.layout).clamp(min=0)
    return Outcome(output, {"weight": Largest(index, counted, weight)})
