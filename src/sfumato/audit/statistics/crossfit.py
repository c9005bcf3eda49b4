"""Advantage and balanced accuracy at a threshold that never saw the scores it is measured on.

The maximum of TPR - FPR over thresholds is above 0 even for an attack that knows nothing. Here the units are
parted in two halves, each half gets the threshold that is best on the other, and rates are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfumato.audit.statistics.bootstrap import (
    CrossedGame,
    Resamples,
    crossed_scale,
    percentile_interval,
)
from sfumato.audit.statistics.influence import advantage_influence
from sfumato.audit.statistics.intervals import Interval, never_certain
from sfumato.audit.statistics.roc import MemberScores, best_threshold

Floats = NDArray[np.float64]


class Rates(NamedTuple):
    """TPR and FPR at fixed thresholds, one per replicate [replicates] (NaN where a class was not drawn)."""

    tpr: Floats
    fpr: Floats


@dataclass(frozen=True)
class AdvantageInterval:
    """TPR - FPR with its interval, all in [-1, 1]."""

    value: float
    low: float
    high: float


def crossfitted_calls(game: CrossedGame, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """Who is called member [targets, units] when each half of the units uses the other half's best threshold.

    None where a half holds no member or no nonmember score: then there is nothing to choose a threshold on.
    """
    half = rng.permutation(game.scores.shape[1]) % 2 == 0
    called = np.zeros(game.scores.shape, bool)
    for judged, chosen_on in ((half, ~half), (~half, half)):
        learned = _part(game, chosen_on)
        if learned is None or _part(game, judged) is None:
            return None
        called[:, judged] = game.scores[:, judged] >= best_threshold(*learned)
    return called


def _part(game: CrossedGame, units: NDArray[np.bool_]) -> MemberScores | None:
    played, truth, scores = game.in_game[:, units], game.members[:, units], game.scores[:, units]
    part = MemberScores(scores[played & truth], scores[played & ~truth])
    return part if part.members.size and part.nonmembers.size else None


def replicated_rates(game: CrossedGame, called: NDArray[np.bool_], resamples: Resamples) -> Rates:
    """Rates of fixed calls [targets, units] in every bootstrap replicate, as bilinear forms of the draws."""
    member = game.in_game & game.members
    nonmember = game.in_game & ~game.members
    return Rates(
        _ratio(_weight(member & called, resamples), _weight(member, resamples)),
        _ratio(_weight(nonmember & called, resamples), _weight(nonmember, resamples)),
    )


def advantage_at(
    game: CrossedGame, called: NDArray[np.bool_], resamples: Resamples, confidence: float
) -> AdvantageInterval:
    """TPR - FPR of fixed calls [targets, units] with a cluster-bootstrap interval, scaled by `crossed_scale`."""
    value = float(called[game.in_game & game.members].mean() - called[game.in_game & ~game.members].mean())
    rates = replicated_rates(game, called, resamples)
    scale = crossed_scale(advantage_influence(game, called), confidence)
    low, high = percentile_interval(value, rates.tpr - rates.fpr, confidence, scale)
    least = _least(value, game, confidence)
    return AdvantageInterval(value, float(min(low, least.low)), float(max(high, least.high)))


def best_advantage(
    crossfitted: AdvantageInterval, game: CrossedGame, resamples: Resamples, confidence: float
) -> AdvantageInterval:
    """The maximum of TPR - FPR over thresholds, with an interval that is honest under the null.

    Low end: that of the cross-fitted advantage (its threshold is one of those the maximum runs over, and it
    was not chosen on the scores that judge it), never below 0. High end: the maximum plus the bootstrap
    deviation at its own threshold; since the maximum is never below the empirical advantage at the best true
    threshold, this covers as well as the deviation does.
    """
    threshold = best_threshold(game.scores[game.in_game & game.members], game.scores[game.in_game & ~game.members])
    at_best = advantage_at(game, game.scores >= threshold, resamples, confidence)
    low = min(max(crossfitted.low, 0.0), at_best.value)
    return AdvantageInterval(at_best.value, low, max(at_best.high, at_best.value))


def _least(value: float, game: CrossedGame, confidence: float) -> Interval:
    """No variance is seen at TPR - FPR = 1 or -1: allow for what so many units cannot exclude."""
    n = min(game.n_members, game.n_nonmembers, game.scores.shape[1])
    exact = (
        never_certain(abs(value), n, confidence)
        if abs(value) == 1
        else Interval(np.asarray(abs(value)), np.asarray(abs(value)))
    )
    return exact if value >= 0 else Interval(-exact.high, -exact.low)


def _weight(entries: NDArray[np.bool_], resamples: Resamples) -> Floats:
    return ((resamples.targets @ entries.astype(np.float64)) * resamples.units).sum(axis=1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
