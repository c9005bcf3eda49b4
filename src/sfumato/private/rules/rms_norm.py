"""Normalisation by the root mean square: a scale, no shift."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sfumato.private.rules.affine import SCALE, Normalised, affine_terms, refuse_computed
from sfumato.private.rules.base import Call, Function, Outcome, Rule


class RMSNorm(Rule):
    """`rms_norm(input, normalized_shape, weight, eps)`."""

    name = "rms-norm"
    signature = ("input", "normalized_shape", "weight", "eps")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (F.rms_norm, torch.rms_norm)

    def apply(self, call: Call) -> Outcome:
        refuse_computed(call)
        output, shape = call.run(), tuple(call.bound["normalized_shape"])
        return Outcome(output, affine_terms(call, ByRootMeanSquare(call.rows_of("input"), shape, call.get("eps"))))


class ByRootMeanSquare(Normalised):
    """What was divided by its root mean square over the last axes.

    Args:
        seen: [rows, ..., *features].
        features: sizes of these axes.
        eps: as torch reads it; None stands for the precision of the type computed in.
    """

    def __init__(self, seen: torch.Tensor, features: tuple[int, ...], eps: float | None) -> None:
        super().__init__(seen)
        self.features, self.eps = features, eps

    def found(self, grad: torch.Tensor) -> dict[str, torch.Tensor]:
        normalised = torch.rms_norm(self.seen.to(grad.dtype), self.features, None, self.eps)
        return {SCALE: (normalised * grad).view(len(grad), -1, *self.features).sum(dim=1)}
