"""Whether two disjoint sets of target models call the same units vulnerable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from sfumato.audit.statistics.bootstrap import crossed_game
from sfumato.audit.statistics.vulnerability import unit_vulnerability, worst_share
from sfumato.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """Agreement of two halves of the models on who is vulnerable.

    Attributes:
        jaccard: overlap of the two flagged sets, |A and B| / |A or B|, in [0, 1].
        jaccard_by_chance: what two random sets of that size would overlap in expectation, about.
        spearman: rank correlation of the per-unit AUC over all units, in [-1, 1]; NaN for constant ranks.
        n_flagged: units flagged by each half.
        n_units: units measured in both halves.
    """

    jaccard: float
    jaccard_by_chance: float
    spearman: float
    n_flagged: int
    n_units: int


def split_half_stability(
    scores: ArrayLike,
    members: ArrayLike,
    in_game: ArrayLike | None = None,
    *,
    share: float = 0.1,
    rng: np.random.Generator,
) -> Stability:
    """Flag the `share` of units with the highest AUC in each random half of the models, and compare.

    Args:
        scores: [models, units], higher = member.
        members: booleans [models, units].
        in_game: booleans [models, units] or [units].
        share: of the units to flag, in (0, 1].
        rng: parts the models.

    Raises:
        UsageError: fewer than four models, or no unit has models with and without it in both halves.
    """
    game = crossed_game(scores, members, in_game)
    if game.scores.shape[0] < 4:
        raise UsageError(
            f"Expected at least 4 target models to compare two halves, got {game.scores.shape[0]}.",
            remedy="Audit more target models.",
        )
    half = rng.permutation(game.scores.shape[0]) % 2 == 0
    first, second = (
        unit_vulnerability(game.scores[part], game.members[part], game.in_game[part]).auc for part in (half, ~half)
    )
    return compare_rankings(first, second, share)


def compare_rankings(first: ArrayLike, second: ArrayLike, share: float = 0.1) -> Stability:
    """Agreement of two vulnerability rankings [units] of the same units; NaN in either leaves the unit out."""
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    both = ~np.isnan(left) & ~np.isnan(right)
    left, right = left[both], right[both]
    flagged_left, flagged_right = worst_share(left, share).units, worst_share(right, share).units
    shared, n_flagged = np.intersect1d(flagged_left, flagged_right).size, flagged_left.size
    expected = n_flagged**2 / left.size
    return Stability(
        jaccard=shared / (2 * n_flagged - shared),
        jaccard_by_chance=expected / (2 * n_flagged - expected),
        spearman=_spearman(left, right),
        n_flagged=n_flagged,
        n_units=left.size,
    )


def _spearman(left: Floats, right: Floats) -> float:
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(left), rankdata(right))[0, 1])
