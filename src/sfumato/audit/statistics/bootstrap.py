"""Cluster bootstrap for a membership game whose scores form a matrix [targets, units].

Scores of one target model share that model, scores of one unit share that unit, so neither rows nor columns are
independent samples of n_targets * n_units trials. Targets and units are each resampled with replacement and a
score weighs (draws of its target) x (draws of its unit), the "pigeonhole" bootstrap (Owen 2007, 0712.1111).
It never understates the variance to first order. Where it overstates it (up to threefold, when scores share
neither target nor unit effects) `crossed_scale` gives the factor that takes the excess back.

Three targets or fewer cannot show how targets differ. They are kept as they are, and the interval then
speaks of these models only.

Scores are sorted once; a replicate only adds integer weights in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from sfumato.audit.statistics.intervals import Interval, checked_confidence
from sfumato.audit.statistics.roc import by_membership
from sfumato.errors import UsageError

Floats = NDArray[np.float64]

_ROUNDING = 1e-12
FEWEST_TARGETS = 4
"""Below this many targets only units are resampled, and an interval speaks of these targets only."""


class Resamples(NamedTuple):
    """How often each cluster was drawn: `targets` [replicates, targets] and `units` [replicates, units]."""

    targets: Floats
    units: Floats


class WeightedROC(NamedTuple):
    """Corners of one replicate's step ROC, in weighted counts, in order of falling threshold.

    Attributes:
        false_positives: [corners], from 0 to `nonmembers`.
        true_positives: [corners], from 0 to `members`.
        nonmembers: total weight of nonmember scores.
        members: total weight of member scores.
    """

    false_positives: Floats
    true_positives: Floats
    nonmembers: float
    members: float


@dataclass(frozen=True)
class CrossedGame:
    """One membership game over many targets and units, checked: `scores`, `members`, `in_game` [targets, units]."""

    scores: Floats
    members: NDArray[np.bool_]
    in_game: NDArray[np.bool_]

    @property
    def n_members(self) -> int:
        """Scores of members in the game, over all targets."""
        return int((self.in_game & self.members).sum())

    @property
    def n_nonmembers(self) -> int:
        """Scores of nonmembers in the game, over all targets."""
        return int((self.in_game & ~self.members).sum())


def crossed_game(scores: ArrayLike, members: ArrayLike, in_game: ArrayLike | None = None) -> CrossedGame:
    """Check and align the three matrices; a single target may come as flat arrays [units].

    Args:
        scores: [targets, units], higher = member; NaN is allowed only outside the game.
        members: booleans [targets, units], True where the target was trained on the unit.
        in_game: booleans [targets, units] or [units]; None plays every unit against every target.

    Raises:
        UsageError: shapes differ, a class is empty, or a score in the game is NaN.
    """
    values, truth = np.atleast_2d(np.asarray(scores, np.float64)), np.atleast_2d(np.asarray(members))
    played = np.ones(values.shape, bool) if in_game is None else _broadcast_mask(in_game, values.shape)
    by_membership(values, truth, played)  # Refuses what cannot be scored.
    return CrossedGame(values, truth, played)


def _broadcast_mask(in_game: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.asarray(in_game)
    if mask.dtype != np.bool_ or mask.shape not in (shape, shape[-1:]):
        raise UsageError(
            f"Expected `in_game` to be booleans of shape {shape} or {shape[-1:]}, got {mask.dtype} of {mask.shape}.",
            remedy="Pass True where the unit is played against the target.",
        )
    return np.broadcast_to(mask, shape)


def draw_resamples(n_targets: int, n_units: int, replicates: int, rng: np.random.Generator) -> Resamples:
    """Draw clusters with replacement; below `FEWEST_TARGETS` targets, units are the only cluster."""
    if replicates < 2:
        raise UsageError(f"Expected at least 2 replicates, got {replicates}.", remedy="200 is a usual number.")
    units = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=replicates).astype(np.float64)
    if n_targets < FEWEST_TARGETS:
        return Resamples(np.ones((replicates, n_targets)), units)
    targets = rng.multinomial(n_targets, np.full(n_targets, 1 / n_targets), size=replicates)
    return Resamples(targets.astype(np.float64), units)


class _Entries(NamedTuple):
    """Scores of one class in order of falling score: their `target`, their `unit`, where each corner `ends`."""

    target: NDArray[np.intp]
    unit: NDArray[np.intp]
    ends: NDArray[np.intp]


@dataclass(frozen=True)
class SortedGame:
    """A game sorted once, from which weighted ROCs are summed; make it with `sort_game`."""

    members: _Entries
    nonmembers: _Entries
    thresholds: Floats

    def weighted_roc(self, target_weights: Floats, unit_weights: Floats) -> WeightedROC:
        """The ROC when a score counts target_weights[t] * unit_weights[u] times ([targets] and [units])."""
        true_positives = _weight_at_corners(self.members, target_weights, unit_weights)
        false_positives = _weight_at_corners(self.nonmembers, target_weights, unit_weights)
        return WeightedROC(false_positives, true_positives, float(false_positives[-1]), float(true_positives[-1]))


def sort_game(game: CrossedGame) -> SortedGame:
    """Sort the scores of a game once, by falling score, with ties as one threshold.

    Thresholds in the middle of a vertical or horizontal stretch are left out: whatever the weights are, no
    statistic of a step curve can depend on them.
    """
    rows, columns = np.nonzero(game.in_game)
    scores, truth = game.scores[rows, columns], game.members[rows, columns]
    order = np.argsort(-scores, kind="stable")
    rows, columns, scores, truth = rows[order], columns[order], scores[order], truth[order]
    last_of_tie = np.r_[scores[1:] != scores[:-1], True]
    ends = np.flatnonzero(last_of_tie) + 1
    members_before = np.r_[0, np.cumsum(truth)]
    true_positives, false_positives = members_before[ends], ends - members_before[ends]
    corner = _corners(true_positives, false_positives)
    return SortedGame(
        _Entries(rows[truth], columns[truth], np.r_[0, true_positives[corner]]),
        _Entries(rows[~truth], columns[~truth], np.r_[0, false_positives[corner]]),
        np.r_[np.inf, scores[ends - 1][corner]],
    )


def _corners(true_positives: NDArray[np.intp], false_positives: NDArray[np.intp]) -> NDArray[np.bool_]:
    rise, run = np.diff(true_positives, prepend=0) > 0, np.diff(false_positives, prepend=0) > 0
    straight = (rise[:-1] & ~run[:-1] & rise[1:] & ~run[1:]) | (~rise[:-1] & run[:-1] & ~rise[1:] & run[1:])
    return np.r_[~straight, True]


def _weight_at_corners(entries: _Entries, target_weights: Floats, unit_weights: Floats) -> Floats:
    total = np.empty(entries.unit.size + 1)
    total[0] = 0.0
    np.cumsum(target_weights[entries.target] * unit_weights[entries.unit], out=total[1:])
    return total[entries.ends]


def full_roc(game: SortedGame, n_targets: int, n_units: int) -> WeightedROC:
    """The ROC of the scores as they are, every weight 1."""
    return game.weighted_roc(np.ones(n_targets), np.ones(n_units))


def bootstrap(game: SortedGame, resamples: Resamples, statistic: Callable[[WeightedROC], Floats]) -> Floats:
    """`statistic` of every replicate's ROC: [replicates, ...]; NaN where a replicate drew an empty class.

    Args:
        game: from `sort_game`.
        resamples: from `draw_resamples`; use the same ones to compare games played by the same clusters.
        statistic: any function of a `WeightedROC` that returns an array of fixed shape.
    """
    out = [_guarded(statistic, game.weighted_roc(*draw)) for draw in zip(*resamples, strict=True)]
    shape = np.broadcast_shapes(*(np.shape(value) for value in out))
    return np.stack([np.broadcast_to(value, shape) for value in out])


def _guarded(statistic: Callable[[WeightedROC], Floats], curve: WeightedROC) -> Floats:
    return statistic(curve) if curve.members > 0 and curve.nonmembers > 0 else np.asarray(np.nan)


def weighted_auc(curve: WeightedROC) -> Floats:
    """Mann-Whitney AUC of a weighted ROC, ties 1/2 (the area under straight lines between corners)."""
    heights = (curve.true_positives[1:] + curve.true_positives[:-1]) / 2
    return np.asarray(np.diff(curve.false_positives) @ heights / (curve.members * curve.nonmembers))


def weighted_tpr_at_fpr(curve: WeightedROC, fprs: Floats) -> Floats:
    """Largest TPR whose FPR is at most each of `fprs` [k] on the step curve: [k]."""
    allowed = fprs * curve.nonmembers * (1 + _ROUNDING)
    last = np.searchsorted(curve.false_positives, allowed, "right") - 1
    return curve.true_positives[last] / curve.members


def weighted_tnr_at_fnr(curve: WeightedROC, fnrs: Floats) -> Floats:
    """Largest TNR whose FNR is at most each of `fnrs` [k] on the step curve: [k]."""
    needed = curve.members - fnrs * curve.members * (1 + _ROUNDING)
    first = np.searchsorted(curve.true_positives, needed, "left")
    return 1 - curve.false_positives[first] / curve.nonmembers


class CrossedVariance(NamedTuple):
    """Variance of a sum of influences [targets, units] by what is allowed to be correlated.

    Attributes:
        targets: scores of one target correlated, others independent.
        units: scores of one unit correlated.
        cells: all scores independent.
    """

    targets: float
    units: float
    cells: float

    @property
    def total(self) -> float:
        """Both correlations allowed (Cameron, Gelbach and Miller 2011, eq. 2.8), never below either alone."""
        return max(self.targets, self.units, self.targets + self.units - self.cells)


def crossed_variance(influence: Floats) -> CrossedVariance:
    """Variances of a statistic from its influence values [targets, units], which sum to about 0."""
    cells = float((influence**2).sum())
    return CrossedVariance(_clustered(influence.sum(1)), _clustered(influence.sum(0)), cells)


def _clustered(sums: Floats) -> float:
    n = sums.size
    return float(((sums - sums.mean()) ** 2).sum() * n / (n - 1)) if n > 1 else 0.0


def crossed_scale(influence: Floats, confidence: float) -> float:
    """Factor on pigeonhole deviations that gives this statistic's interval its right width.

    The pigeonhole variance is targets + units + cells to first order (Owen 2007, theorem 2) where the design
    has `CrossedVariance.total`. Few targets know their own spread badly, so the normal quantile is replaced by
    Student's with Satterthwaite's degrees of freedom. 1 where targets are not resampled.

    Args:
        influence: [targets, units], see `crossed_variance`.
        confidence: of the two-sided interval, in (0, 1).
    """
    n_targets, n_units = influence.shape
    variance = crossed_variance(influence)
    if n_targets < FEWEST_TARGETS or variance.total == 0:
        return 1.0
    kept_targets, kept_units = (n_targets - 1) / n_targets, (n_units - 1) / n_units
    pigeonhole = variance.targets * kept_targets + variance.units * kept_units + variance.cells
    spread = variance.targets**2 / (n_targets - 1) + variance.units**2 / max(n_units - 1, 1)
    tail = (1 - checked_confidence(confidence)) / 2
    student = float(stdtrit(variance.total**2 / spread, tail) / ndtri(tail))
    return student * float(np.sqrt(variance.total / pigeonhole))


def percentile_interval(value: Floats | float, replicates: Floats, confidence: float, scale: float = 1.0) -> Interval:
    """Percentile interval from `replicates` [replicates, ...], deviations from `value` times `scale`.

    NaN replicates (an empty class was drawn) are left out; where all are NaN both ends are NaN.
    """
    tail = (1 - checked_confidence(confidence)) / 2
    filled = np.where(np.isnan(replicates).all(axis=0), np.inf, replicates)
    # Weibull plotting positions p (n + 1): the default ones give ends that are too near at 200 replicates.
    low, high = np.nanquantile(filled, [tail, 1 - tail], axis=0, method="weibull")
    low, high = (np.where(np.isposinf(end), np.nan, end) for end in (low, high))
    return Interval(value + scale * (low - value), value + scale * (high - value))


def bca_interval(value: float, replicates: Floats, influence: Floats, confidence: float) -> Interval:
    """Bias-corrected and accelerated interval (Efron 1987) of one statistic of one target.

    Args:
        value: the statistic of the sample.
        replicates: its bootstrap values [replicates].
        influence: influence values of the units [units], from which the acceleration is taken.
        confidence: two-sided, in (0, 1).
    """
    finite = replicates[~np.isnan(replicates)]
    below = (np.sum(finite < value) + np.sum(finite == value) / 2) / max(finite.size, 1)
    spread = float((influence**2).sum())
    if spread == 0 or not 0 < below < 1:
        return percentile_interval(value, replicates, confidence)
    bias, acceleration = float(ndtri(below)), float((influence**3).sum() / (6 * spread**1.5))
    tail = (1 - checked_confidence(confidence)) / 2
    normal = bias + ndtri(np.array([tail, 1 - tail]))
    low, high = np.quantile(finite, ndtr(bias + normal / (1 - acceleration * normal)), method="weibull")
    return Interval(low, high)
