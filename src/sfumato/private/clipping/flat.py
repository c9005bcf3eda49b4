"""Flat clipping: one bound for the whole gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.private.citations import ABADI2016
from sfumato.private.clipping.base import Clipping, ClippingState, total_norms
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class Flat(Clipping):
    """c = min(1, C / ||g||) (Abadi et al., arXiv 1607.00133, algorithm 1).

    Args:
        max_grad_norm: C, above 0.
    """

    name: ClassVar[str] = "flat"
    summary: ClassVar[str] = "Scales a gradient down to the bound if it is longer."
    reference: ClassVar[str] = "abadi2016deep"
    bibtex: ClassVar[str] = ABADI2016

    max_grad_norm: float

    def __post_init__(self) -> None:
        positive("max_grad_norm", self.max_grad_norm)

    def initial_state(self, tensors: int) -> ClippingState:
        return ClippingState((self.max_grad_norm,))

    def _factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        return flat_factors(total_norms(squared_norms), state.max_grad_norms[0])


def flat_factors(norms: torch.Tensor, max_grad_norm: float | torch.Tensor) -> torch.Tensor:
    """min(1, C / n), elementwise; 1 where n is 0."""
    return (max_grad_norm / norms).clamp(max=1.0)
