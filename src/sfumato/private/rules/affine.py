"""Scale and shift of a normalisation: g_scale = sum of G * normalised input, g_shift = sum of G, per unit and channel.

Both come from one pass over the input and G, so the two terms of a layer share what was seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from sfumato.errors import UnsupportedModel
from sfumato.private.rules.base import Call, Term

SCALE, SHIFT = "weight", "bias"


class Normalised(ABC):
    """What a normalisation saw, rows first.

    Args:
        seen: its input.

    Attributes:
        wanted: names that somebody will take.
    """

    def __init__(self, seen: torch.Tensor) -> None:
        self.seen = seen
        self._of: torch.Tensor | None = None  # held, so that its place in memory is not another one's
        self._place: object = None
        self._found: dict[str, torch.Tensor] = {}
        self.wanted: set[str] = set()

    @abstractmethod
    def found(self, grad: torch.Tensor) -> dict[str, torch.Tensor]:
        """Everything that one pass over G [rows, ...] gives, by name: gradients of each row, [rows, *shape]."""

    def take(self, name: str, grad: torch.Tensor) -> torch.Tensor:
        """One of `found`, computed once for all who ask with the same G."""
        if name not in self._found or self._place != _place(grad):
            self._of, self._place = grad, _place(grad)
            self._found = {n: part for n, part in self.found(grad).items() if n in self.wanted}
        part = self._found.pop(name)
        if not self._found:
            self._of = None  # G is not kept longer than needed
        return part


class AffineTerm(Term):
    """The scale or the shift of a normalisation.

    Args:
        normalised: shared with the other one.
        name: SCALE or SHIFT.
        shape: of the parameter.
    """

    def __init__(self, normalised: Normalised, name: str, shape: torch.Size) -> None:
        self.normalised, self.name, self.shape = normalised, name, shape
        self.saved = (normalised.seen,)
        normalised.wanted.add(name)

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        per_row = self.normalised.take(self.name, grad)
        per_unit = per_row.reshape(units, -1, *self.shape)
        return torch.sum(per_unit, dim=1) if out is None else torch.sum(per_unit, dim=1, out=out)


def affine_terms(call: Call, normalised: Normalised) -> dict[str, Term]:
    """Terms of those of scale and shift that are private."""
    return {
        name: AffineTerm(normalised, name, call.bound[name].shape) for name in (SCALE, SHIFT) if name in call.private
    }


def _place(tensor: torch.Tensor) -> object:
    """The same for tensors that are the same numbers in the same place, so that one result serves both."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version


def refuse_computed(call: Call) -> None:
    """Scales that were computed from data have gradients of their own, which the fallback knows."""
    if any(call.get(name) is not None and call.bound[name].requires_grad for name in (SCALE, SHIFT)):
        raise UnsupportedModel(
            f"Expected scale and shift of {call.function.__name__} to be parameters, got some computed from data.",
            remedy="Make them parameters, or train with a loop of single examples (`method='loop'`).",
        )
