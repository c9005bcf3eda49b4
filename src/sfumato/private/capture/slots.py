"""Private tensors of one pass: trainable parameters, and tensors made of parameters alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from sfumato.private.rules.base import ClosedForm, Layout, Part, Term


@dataclass(eq=False)
class Use:
    """One use of a private tensor: its term, and G once the backward pass has been there."""

    term: Term
    layout: Layout
    versions: tuple[int, ...]
    grad: torch.Tensor | None = None

    def spend(self) -> None:
        """Let go of what was seen, as autograd does; a settled use is still told apart from one without a gradient."""
        assert self.grad is not None
        self.term, self.grad = _Spent(), self.grad.new_empty(0)


class _Spent(Term):
    """Of a use whose gradients are settled."""

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        raise AssertionError("a settled use was asked again")


@dataclass(eq=False)
class Slot:
    """A private tensor.

    Args:
        tensor: the parameter, or a tensor made of parameters alone with its graph.
        name: of the parameter, or of what it is made of.
        leaves: names of the parameters that it is made of; its own name for a parameter.
        same_norm: whether the map from the parameter only moves numbers about, so that norms agree.
        form: another map by which norms follow, if any.
        sources: what the form calls each of the leaves.
        place: tells slots of one name apart.
    """

    tensor: torch.Tensor
    name: str
    leaves: tuple[str, ...]
    derived: bool = False
    same_norm: bool = True
    place: int = 0
    uses: list[Use] = field(default_factory=list)
    form: ClosedForm | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.value = self.tensor.detach()


@dataclass(eq=False)
class Settled:
    """Gradients of all units with respect to one private tensor: as they are, or as what they are a product of.

    Args:
        squared: squared norms [units].
        dense: [units, *shape], or None.
        term: with `grad`, where nothing was instantiated.
        grad: G, rows first.
        parts: by source, where the tensor was made by a closed form.
    """

    squared: torch.Tensor
    dense: torch.Tensor | None = None
    term: Term | None = None
    grad: torch.Tensor | None = None
    parts: dict[str, Part] = field(default_factory=dict)

    def weighted_sum(self, factors: torch.Tensor, *, all_finite: bool = False) -> torch.Tensor:
        """The sum of factors[unit] times the unit's gradient; a unit that is not finite counts as zero.

        Args:
            factors: [units].
            all_finite: whether the caller knows that every unit is finite, and need not ask again.
        """
        bad = None if all_finite else ~self.squared.isfinite()
        if bad is not None and bool(bad.any()):
            self._drop(bad)
        if self.dense is not None:
            flat = self.dense.reshape(len(factors), -1)
            return torch.mv(flat.T, factors.to(flat.dtype)).view(self.dense.shape[1:])
        assert self.term is not None
        assert self.grad is not None
        return self.term.weighted_sum(self.grad, factors.to(self.grad.dtype))

    def _drop(self, bad: torch.Tensor) -> None:
        if self.dense is not None:
            self.dense[bad] = 0
        if self.term is not None and self.grad is not None:
            self.grad = _zeroed(self.grad, bad)
            self.term.saved = tuple(_zeroed(saved, bad) for saved in self.term.saved)


def _zeroed(tensor: torch.Tensor, bad: torch.Tensor) -> torch.Tensor:
    rows = bad.repeat_interleave(len(tensor) // len(bad))
    return tensor.masked_fill(rows.view(-1, *[1] * (tensor.dim() - 1)), 0)
