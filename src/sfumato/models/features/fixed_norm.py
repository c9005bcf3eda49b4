"""Records of one length, as a feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.models.features.base import Features
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class FixedNorm(Features):
    """Each record, scaled to one L2 norm; a record of zeros stays one.

    Clipping bounds a gradient, which for a linear model is as long as its input: with inputs of one length it treats
    all examples alike.

    Args:
        norm: above 0.
    """

    name: ClassVar[str] = "fixed-norm"

    norm: float

    def __post_init__(self) -> None:
        positive("norm", self.norm)

    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        return record

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [n, ...] to float32 of the same shape."""
        return of_norm(x.detach().float(), self.norm)


def of_norm(x: torch.Tensor, norm: float) -> torch.Tensor:
    """[n, ...] scaled to the L2 norm `norm` per row; rows of zeros stay."""
    lengths = torch.linalg.vector_norm(x.flatten(1), dim=1)
    factors = torch.where(lengths > 0, norm / lengths, 0.0)
    return x * factors.view(-1, *(1 for _ in x.shape[1:]))
