"""TPR at a false positive rate that holds for each unit by itself, not only on average over units.

A pooled threshold spends its false positives on the units whose scores run high, member or not, so the pooled FPR is
that of no single unit (Jaelkoe et al., arXiv 2605.25819). Here each score becomes a p-value among the scores of the
same unit under the models that were not trained on it, and a unit is called a member where p is at most the FPR. With m
such models a p-value cannot be below 1 / (m + 1): lower rates are not resolved, whatever the number of units.

The rate is exact where scores of one unit under models that were not trained on it are exchangeable with the target's.
An attack whose references are the other targets (leave-one-out) breaks that a little: each of its scores knows all the
others' answers and memberships.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.audit.statistics.bootstrap import (
    FEWEST_TARGETS,
    CrossedGame,
    Resamples,
    crossed_game,
    draw_resamples,
    percentile_interval,
)
from sfumato.audit.statistics.estimate import Counts, Estimate, unresolved
from sfumato.audit.statistics.intervals import checked_confidence, clopper_pearson
from sfumato.validate import in_range

Floats = NDArray[np.float64]

NAME = "tpr_at_fpr_calibrated"
_ROUNDING = 1e-9


class Ranks(NamedTuple):
    """p-values [targets, units], NaN outside the game, and the fewest OUT models of any member's unit."""

    p: Floats
    fewest_out: int


def own_ranks(game: CrossedGame) -> Ranks:
    """The p-value of each score among the OUT scores of the same unit under other targets.

    p = (1 + OUT scores that are at least as high) / (1 + OUT scores). Ties count against the attack. An OUT score is
    compared with the others, itself left out.
    """
    out = game.in_game & ~game.members
    p = np.full(game.scores.shape, np.nan)
    for target, (scores, mine, played) in enumerate(zip(game.scores, out, game.in_game, strict=True)):
        others = out.sum(axis=0) - mine
        higher = (out & (game.scores >= scores)).sum(axis=0) - mine
        p[target] = np.where(played, (1 + higher) / (1 + others), np.nan)
    judged = (game.in_game & game.members).any(axis=0)
    return Ranks(p, int(out.sum(axis=0)[judged].min(initial=0 if not judged.any() else np.iinfo(np.int64).max)))


def calibrated_tpr(
    scores: ArrayLike,
    members: ArrayLike,
    in_game: ArrayLike | None = None,
    *,
    fprs: Sequence[float],
    confidence: float = 0.95,
    replicates: int = 200,
    rng: np.random.Generator,
) -> tuple[Estimate, ...]:
    """Share of member scores with a p-value of at most each FPR, with an interval over targets and units.

    Args:
        scores: [targets, units], higher = member; NaN only outside the game.
        members: booleans [targets, units].
        in_game: booleans [targets, units] or [units]; None plays all.
        fprs: false positive rates of each unit by itself.
        confidence: of each two-sided interval, in (0, 1).
        replicates: bootstrap replicates.
        rng: draws clusters.

    Returns:
        One estimate per FPR, called `NAME`; not resolvable where some unit has fewer than 1 / FPR - 1 OUT models.
    """
    checked_confidence(confidence)
    for fpr in fprs:
        in_range("fprs", fpr, 0.0, 1.0)
    game = crossed_game(scores, members, in_game)
    ranks = own_ranks(game)
    n_targets, n_units = game.scores.shape
    drawn = draw_resamples(n_targets, n_units, replicates, rng)
    return tuple(_at(game, ranks, fpr, confidence, drawn) for fpr in fprs)


def resolved_per_unit(fpr: float, out_models: int) -> bool:
    """Whether a rate of `fpr` can be told for one unit: 1 / (m + 1) is the lowest p-value of m OUT models."""
    return fpr * (out_models + 1) >= 1 - _ROUNDING


def _at(game: CrossedGame, ranks: Ranks, fpr: float, confidence: float, drawn: Resamples) -> Estimate:
    counts, m = Counts(game.n_members, game.n_nonmembers), ranks.fewest_out
    if not resolved_per_unit(fpr, m):
        return unresolved(NAME, counts, confidence, _too_few(fpr, m), fpr)
    truth = game.in_game & game.members
    hits = truth & (ranks.p <= fpr * (1 + _ROUNDING))
    value = float(hits.sum() / counts.n_members)
    interval = percentile_interval(value, _resampled(hits, truth, drawn), confidence)
    exact = clopper_pearson(int(hits.sum()), counts.n_members, confidence)
    own = np.floor(fpr * (m + 1) + _ROUNDING) / (m + 1)
    few = game.scores.shape[0] < FEWEST_TARGETS
    return Estimate(
        name=NAME,
        value=value,
        low=max(0.0, float(np.fmin(np.fmin(interval.low, exact.low), value))),
        high=min(1.0, float(np.fmax(np.fmax(interval.high, exact.high), value))),
        n_members=counts.n_members,
        n_nonmembers=counts.n_nonmembers,
        confidence=confidence,
        method=f"cluster bootstrap over {'units' if few else 'targets and units'}, widened to Clopper-Pearson",
        note=f"Each unit's threshold comes from its own {m} OUT models: its own rate is at most {own:.3g}.",
        at=fpr,
    )


def _resampled(hits: NDArray[np.bool_], truth: NDArray[np.bool_], drawn: Resamples) -> Floats:
    """The rate of every replicate, [replicates]; NaN where one drew no member."""
    found, all_ = (((drawn.targets @ part) * drawn.units).sum(axis=1) for part in (hits, truth))
    return np.where(all_ > 0, found / np.where(all_ > 0, all_, 1.0), np.nan)


def _too_few(fpr: float, out_models: int) -> str:
    if fpr <= 0:
        return "A rate of 0 cannot be resolved for one unit by any number of models."
    needed = int(np.ceil(1 / fpr - 1 - _ROUNDING))
    return (
        f"Not resolved: a rate of {fpr:g} for each unit by itself needs at least {needed:,} models without it, there "
        f"are {out_models:,}."
    )
