"""The two worlds of a record: references trained with it (IN) and without it (OUT)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.errors import NotApplicable
from sfumato.types import Bools, Floats, Ints

ABSOLUTE_FLOOR = 1e-12
RELATIVE_FLOOR = 1e-6


class World(NamedTuple):
    """Scores of the references of one kind, per record.

    Attributes:
        models: int [n], number of references of this kind.
        mean: float64 [n, variants].
        squares: float64 [n, variants], sum of squared residuals from that mean.
    """

    models: Ints
    mean: Floats
    squares: Floats

    @property
    def freedom(self) -> Ints:
        """int [n, 1]: degrees of freedom of `squares`."""
        return np.maximum(self.models - 1, 0)[:, None]

    @property
    def pooled_variance(self) -> Floats:
        """float64 [variants]: within-record residual variance pooled over records; NaN without degrees of freedom."""
        freedom = int(self.freedom.sum())
        return self.squares.sum(axis=0) / freedom if freedom else np.full(self.mean.shape[1], np.nan)


def world(scores: Floats, chosen: Bools) -> World:
    """Mean and residual squares over the references that are chosen for each record.

    Args:
        scores: [r, n, variants], finite.
        chosen: bool [r, n]; at least one reference per record.

    Raises:
        NotApplicable: if some record has no chosen reference.
    """
    count = chosen.sum(axis=0)
    if (count == 0).any():
        raise NotApplicable(
            f"Expected a reference of each kind for every record, got none for {int((count == 0).sum())} records.",
            remedy="Train more shadow models, or choose an offline attack.",
        )
    weight = chosen[..., None]
    mean = np.where(weight, scores, 0.0).sum(axis=0) / count[:, None]
    squares = (np.where(weight, scores - mean, 0.0) ** 2).sum(axis=0)
    return World(count, mean, squares)


def median(scores: Floats, chosen: Bools) -> Floats:
    """Median over the chosen references: [r, n, variants] and bool [r, n] to [n, variants]."""
    ordered = np.sort(np.where(chosen[..., None], scores, np.inf), axis=0)
    count = chosen.sum(axis=0)
    low, high = (count - 1) // 2, count // 2
    at = np.arange(scores.shape[1])
    return (ordered[low, at] + ordered[high, at]) / 2


def floored(variance: Floats, pooled: Floats) -> Floats:
    """Variance of at least 1e-6 of the pooled one and at least 1e-12, so that no density is infinite."""
    return np.maximum(variance, np.maximum(RELATIVE_FLOOR * np.nan_to_num(pooled), ABSOLUTE_FLOOR))
