"""The statistic that an attack reads: of target and references, finite, only on the records in the game."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.attacks.evidence import Evidence
from sfumato.errors import DataError
from sfumato.targets.queries import QuerySet
from sfumato.types import Bools, Floats


class Signal(NamedTuple):
    """A statistic on the g records in the game; higher is more confident.

    Attributes:
        target: float64 [g, variants].
        references: float64 [r, g, variants].
        membership: bool [r, g], which reference was trained on which record.
    """

    target: Floats
    references: Floats
    membership: Bools


def read_signal(evidence: Evidence, statistic: str, queries: QuerySet) -> Signal:
    """The statistic of target and references on the records in the game, with infinities replaced alike in both."""
    target = evidence.target_statistic(statistic, queries)[evidence.game]
    references = evidence.reference_statistic(statistic, queries)[:, evidence.game]
    together = finite(np.concatenate([target[None], references]))
    return Signal(together[0], together[1:], evidence.reference_membership[:, evidence.game])


def finite(values: Floats) -> Floats:
    """Replace infinities, which come from probabilities of exactly 0 or 1, by 1 beyond the furthest finite value.

    The order of the values is kept and nothing finite moves. A fixed bound instead would make an outlier of every
    saturated answer of a forest, whose finite log-odds rarely leave [-6, 6].

    Args:
        values: any shape, values of one statistic that are compared with each other.

    Returns:
        float64, same shape.

    Raises:
        DataError: if a value is NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    usable = np.isfinite(values)
    if usable.all():
        return values
    if np.isnan(values).any():
        raise DataError(
            f"Expected answers that are numbers, got {int(np.isnan(values).sum())} NaN of {values.size}.",
            remedy="Check the model's outputs: logits of NaN, or a row of probabilities that are all 0.",
        )
    low, high = (values[usable].min(), values[usable].max()) if usable.any() else (0.0, 0.0)
    return np.clip(values, low - 1.0, high + 1.0)


def over_population(scores: Floats, game: Bools) -> Floats:
    """Scores of the g records in the game, at their places among all n records; NaN, not a number, elsewhere."""
    placed = np.full(len(game), np.nan)
    placed[game] = scores
    return placed
