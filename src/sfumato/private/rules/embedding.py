"""Look-ups in a table of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sfumato.errors import NotPrivateError, UnsupportedModel
from sfumato.private.rules.base import Call, Function, Outcome, Rule
from sfumato.private.rules.looked_up import LookedUp


class Embedding(Rule):
    """`embedding` of `torch.nn.functional`; the row of `padding_idx` gets no gradient."""

    name = "embedding"
    signature = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (F.embedding,)

    def apply(self, call: Call) -> Outcome:
        return looked_up(call, "input", call.bound.get("padding_idx"))


class EmbeddingOfTorch(Rule):
    """`torch.embedding`: the same with its arguments in another order, where -1 stands for no padding."""

    name = "embedding-of-torch"
    signature = ("weight", "indices", "padding_idx", "scale_grad_by_freq", "sparse")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.embedding,)

    def apply(self, call: Call) -> Outcome:
        padding = call.get("padding_idx", -1)
        return looked_up(call, "indices", None if padding < 0 else padding)


def looked_up(call: Call, indices: str, padding_idx: int | None) -> Outcome:
    """Run a look-up and keep the index."""
    refuse_coupled(call)
    if call.private != ("weight",):
        raise UnsupportedModel(
            f"Expected the table of {call.function.__name__} to be the private tensor, got {call.private}.",
            remedy="Train with a loop of single examples (`method='loop'`).",
        )
    output, weight = call.run(), call.bound["weight"]
    index = call.rows_of(indices)
    return Outcome(output, {"weight": LookedUp(index, weight, factors_of(index, weight, padding_idx))})


def factors_of(index: torch.Tensor, weight: torch.Tensor, padding_idx: int | None) -> torch.Tensor | None:
    """1 for positions that count and 0 for padding, or None where there is no padding."""
    if padding_idx is None:
        return None
    return index.ne(padding_idx % len(weight)).to(weight.dtype)


def refuse_coupled(call: Call) -> None:
    """Options of torch by which the examples of a batch act on each other, or on the table without noise."""
    name = call.function.__name__
    if call.get("max_norm") is not None:
        raise NotPrivateError(
            f"Expected {name} to leave its table alone, got max_norm: it rescales the rows that the examples name, and "
            "so writes to the released weights without noise.",
            remedy="Leave `max_norm` out; rescale the whole table after each step if its norm must be bounded.",
        )
    if call.get("scale_grad_by_freq", False):
        raise NotPrivateError(
            f"Expected {name} to keep examples apart, got scale_grad_by_freq: it divides by counts over the batch.",
            remedy="Leave `scale_grad_by_freq` out.",
        )
