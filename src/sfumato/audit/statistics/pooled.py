"""All numbers of one membership attack on one recipe, pooled over its target models, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.audit.statistics.bootstrap import (
    FEWEST_TARGETS,
    CrossedGame,
    Resamples,
    SortedGame,
    WeightedROC,
    bca_interval,
    bootstrap,
    crossed_game,
    crossed_scale,
    draw_resamples,
    full_roc,
    percentile_interval,
    sort_game,
    weighted_auc,
    weighted_tnr_at_fnr,
    weighted_tpr_at_fpr,
)
from sfumato.audit.statistics.crossfit import (
    AdvantageInterval,
    advantage_at,
    best_advantage,
    crossfitted_calls,
)
from sfumato.audit.statistics.estimate import Counts, Estimate, unresolved
from sfumato.audit.statistics.influence import auc_influence
from sfumato.audit.statistics.intervals import Interval, checked_confidence, clopper_pearson, never_certain
from sfumato.audit.statistics.per_target import PerTarget, per_target
from sfumato.audit.statistics.roc import negatives_needed, ppv, resolvable
from sfumato.validate import in_range

Floats = NDArray[np.float64]

_ROC_POINTS = 81
_OPTIMISM = "The maximum over thresholds is optimistic on small samples; read the cross-fitted value beside it."
_CONSERVATIVE = ", widened to Clopper-Pearson"


@dataclass(frozen=True)
class ROCBand:
    """The pooled step ROC on a log-spaced grid of FPRs with a pointwise band, all [points] in [0, 1].

    Attributes:
        fpr: grid from the smallest FPR that the scores could show (1e-5 at least) to 1.
        tpr: largest TPR with at most that FPR.
        low: pointwise lower end.
        high: pointwise upper end.
        resolvable: False below 10 / n_nonmembers, to be drawn greyed out.
        confidence: of each point, not of the whole band.
    """

    fpr: Floats
    tpr: Floats
    low: Floats
    high: Floats
    resolvable: NDArray[np.bool_]
    confidence: float


@dataclass(frozen=True)
class AttackSummary:
    """What one membership attack achieved, pooled and target by target; see `Estimate` for each field."""

    auc: Estimate
    balanced_accuracy: Estimate
    balanced_accuracy_crossfitted: Estimate
    advantage: Estimate
    advantage_crossfitted: Estimate
    tpr_at_fpr: tuple[Estimate, ...]
    tnr_at_fnr: tuple[Estimate, ...]
    ppv: tuple[Estimate, ...]
    per_target: PerTarget
    roc: ROCBand
    n_targets: int
    n_units: int
    replicates: int

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every pooled estimate, in the order a table prints them."""
        single = (self.auc, self.balanced_accuracy, self.balanced_accuracy_crossfitted)
        return (*single, self.advantage, self.advantage_crossfitted,
                *self.tpr_at_fpr, *self.tnr_at_fnr, *self.ppv)  # fmt: skip


class _Rates(NamedTuple):
    """The statistics of one ROC, or of all replicates (then with a leading axis)."""

    auc: Floats
    tpr: Floats
    tnr: Floats
    band: Floats
    called: Floats


@dataclass(frozen=True)
class _Points:
    """Where the curve is read: `fprs`, the same values as FNRs, the band's grid, and the FPR behind the PPV."""

    fprs: Floats
    grid: Floats
    ppv_fpr: float

    def read(self, curve: WeightedROC) -> Floats:
        """All statistics of a curve, flat."""
        last = _last_within(curve, self.ppv_fpr)
        called = (curve.true_positives[last] / curve.members, curve.false_positives[last] / curve.nonmembers)
        return np.concatenate([
            weighted_auc(curve)[None],
            weighted_tpr_at_fpr(curve, self.fprs),
            weighted_tnr_at_fnr(curve, self.fprs),
            weighted_tpr_at_fpr(curve, self.grid),
            called,
        ])  # fmt: skip

    def part(self, flat: Floats) -> _Rates:
        """Undo the flattening along the last axis."""
        k, g = self.fprs.size, self.grid.size
        auc, tpr, tnr, band, called = np.split(flat, [1, 1 + k, 1 + 2 * k, 1 + 2 * k + g], axis=-1)
        return _Rates(auc[..., 0], tpr, tnr, band, called)


@dataclass(frozen=True)
class _Measured:
    """A game with its values, its replicates and how to call the intervals made from them."""

    game: CrossedGame
    points: _Points
    values: _Rates
    replicates: _Rates
    resamples: Resamples
    confidence: float

    @property
    def counts(self) -> Counts:
        return Counts(self.game.n_members, self.game.n_nonmembers)

    @property
    def method(self) -> str:
        if self.n_targets == 1:
            return "bootstrap over units"
        if self.n_targets < FEWEST_TARGETS:
            return "cluster bootstrap over units"
        return "cluster bootstrap over targets and units"

    @property
    def scaled_method(self) -> str:
        few = self.n_targets < FEWEST_TARGETS
        return self.method if few else f"{self.method}, scaled to the two-way clustered variance"

    @property
    def n_targets(self) -> int:
        return self.game.scores.shape[0]

    @property
    def warning(self) -> str:
        """Few targets cannot show how training runs differ."""
        if self.n_targets >= FEWEST_TARGETS:
            return ""
        models = "One target model" if self.n_targets == 1 else f"Only {self.n_targets} target models"
        return f"{models}: the interval says nothing about other training runs."


def summarise(
    scores: ArrayLike,
    members: ArrayLike,
    in_game: ArrayLike | None = None,
    *,
    fprs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    priors: Sequence[float] = (0.01, 0.1, 0.5),
    ppv_fpr: float = 1e-2,
    confidence: float = 0.95,
    replicates: int = 200,
    rng: np.random.Generator,
) -> AttackSummary:
    """Every metric of one membership attack, with intervals that respect targets and units as clusters.

    Args:
        scores: [targets, units], higher = member; one target may come as [units]. NaN only outside the game.
        members: booleans [targets, units].
        in_game: booleans [targets, units] or [units]: which units are played against which target.
        fprs: false-positive rates for the TPR; the same values serve as FNRs for the TNR.
        priors: shares of members among the candidates, for the PPV.
        ppv_fpr: FPR of the threshold behind the PPV; where it is not resolvable, the PPV is not given.
        confidence: of each two-sided interval, in (0, 1).
        replicates: bootstrap replicates; 200 give ends that are good to about a tenth of the width.
        rng: draws clusters and halves; the same state gives the same summary.

    Scores of one target against shadow models that are other targets (leave-one-out) are dependent through
    those models beyond rows and columns; that dependence is not seen by any resampling of the matrix.

    Raises:
        UsageError: shapes differ, a class is empty, a score in the game is NaN, or a rate is outside [0, 1].
    """
    checked_confidence(confidence)
    for name, rates in (("fprs", fprs), ("priors", priors), ("ppv_fpr", (ppv_fpr,))):
        for rate in rates:
            in_range(name, rate, 0.0, 1.0)
    game = crossed_game(scores, members, in_game)
    n_targets, n_units = game.scores.shape
    resamples = draw_resamples(n_targets, n_units, replicates, rng)
    measured = _measure(game, _points(game, fprs, ppv_fpr), resamples, confidence)
    crossfitted, best = _advantages(measured, rng)
    return AttackSummary(
        auc=_auc(measured),
        balanced_accuracy=_as_accuracy(best),
        balanced_accuracy_crossfitted=_as_accuracy(crossfitted),
        advantage=best,
        advantage_crossfitted=crossfitted,
        tpr_at_fpr=tuple(_tpr(measured, i) for i in range(len(fprs))),
        tnr_at_fnr=tuple(_tnr(measured, i) for i in range(len(fprs))),
        ppv=tuple(_ppv(measured, prior) for prior in priors),
        per_target=per_target(game, np.asarray(fprs, np.float64), confidence),
        roc=_band(measured),
        n_targets=n_targets,
        n_units=n_units,
        replicates=replicates,
    )


def _points(game: CrossedGame, fprs: Sequence[float], ppv_fpr: float) -> _Points:
    lowest = min(max(1e-5, 1 / game.n_nonmembers), 0.5)
    return _Points(np.asarray(fprs, np.float64), np.geomspace(lowest, 1.0, _ROC_POINTS), ppv_fpr)


def _measure(game: CrossedGame, points: _Points, resamples: Resamples, confidence: float) -> _Measured:
    ordered: SortedGame = sort_game(game)
    n_targets, n_units = game.scores.shape
    values = points.part(points.read(full_roc(ordered, n_targets, n_units)))
    replicates = points.part(bootstrap(ordered, resamples, points.read))
    return _Measured(game, points, values, replicates, resamples, confidence)


def _last_within(curve: WeightedROC, fpr: float) -> int:
    allowed = fpr * curve.nonmembers * (1 + 1e-12)
    return int(np.searchsorted(curve.false_positives, allowed, "right")) - 1


def _auc(measured: _Measured) -> Estimate:
    influence, value = auc_influence(measured.game), float(measured.values.auc)
    if measured.n_targets == 1:
        drawn = bca_interval(value, measured.replicates.auc, influence[0], measured.confidence)
        method = f"{measured.method} (BCa)"
    else:
        scale = crossed_scale(influence, measured.confidence)
        drawn = percentile_interval(value, measured.replicates.auc, measured.confidence, scale)
        method = measured.scaled_method
    fewest = min(measured.counts.n_members, measured.counts.n_nonmembers, measured.game.scores.shape[1])
    return _estimate(measured, "auc", value, drawn, never_certain(value, fewest, measured.confidence), method)


def _tpr(measured: _Measured, i: int) -> Estimate:
    fpr = float(measured.points.fprs[i])
    if not resolvable(fpr, measured.counts.n_nonmembers):
        return _too_few(measured, "tpr_at_fpr", fpr, "nonmember", measured.counts.n_nonmembers)
    value, drawn = float(measured.values.tpr[i]), measured.replicates.tpr[:, i]
    return _rate(measured, "tpr_at_fpr", value, drawn, measured.counts.n_members, fpr)


def _tnr(measured: _Measured, i: int) -> Estimate:
    fnr = float(measured.points.fprs[i])
    if not resolvable(fnr, measured.counts.n_members):
        return _too_few(measured, "tnr_at_fnr", fnr, "member", measured.counts.n_members)
    value, drawn = float(measured.values.tnr[i]), measured.replicates.tnr[:, i]
    return _rate(measured, "tnr_at_fnr", value, drawn, measured.counts.n_nonmembers, fnr)


def _rate(measured: _Measured, name: str, value: float, drawn: Floats, trials: int, at: float) -> Estimate:
    """The bootstrap sees no variance in a rate of 0 or 1; the exact interval of the count bounds it from within."""
    interval = percentile_interval(value, drawn, measured.confidence)
    exact = clopper_pearson(round(value * trials), trials, measured.confidence)
    return _estimate(measured, name, value, interval, exact, measured.method + _CONSERVATIVE, at=at)


def _ppv(measured: _Measured, prior: float) -> Estimate:
    fpr, counts = measured.points.ppv_fpr, measured.counts
    if not resolvable(fpr, counts.n_nonmembers):
        return _too_few(measured, "ppv", fpr, "nonmember", counts.n_nonmembers, at=prior)
    hit, wrong = measured.values.called
    value = float(ppv(hit, wrong, prior))
    if np.isnan(value):
        note = f"No threshold calls anybody a member at an FPR of at most {fpr:g} (tied scores)."
        return unresolved("ppv", counts, measured.confidence, note, at=prior)
    tpr, false = measured.replicates.called.T
    interval = percentile_interval(value, ppv(tpr, false, prior), measured.confidence)
    exact = _ppv_corners(measured, prior)
    note = f"At the threshold with an FPR of at most {fpr:g}."
    return _estimate(measured, "ppv", value, interval, exact, measured.method + _CONSERVATIVE, note, prior)


def _ppv_corners(measured: _Measured, prior: float) -> Interval:
    """PPV when either rate alone sits at the end of its exact interval."""
    tpr, false = (float(rate) for rate in measured.values.called)
    hit = clopper_pearson(round(tpr * measured.counts.n_members), measured.counts.n_members, measured.confidence)
    wrong = clopper_pearson(
        round(false * measured.counts.n_nonmembers), measured.counts.n_nonmembers, measured.confidence
    )
    low = np.fmin(ppv(hit.low, false, prior), ppv(tpr, wrong.high, prior))
    return Interval(low, np.fmax(ppv(hit.high, false, prior), ppv(tpr, wrong.low, prior)))


class _Advantages(NamedTuple):
    crossfitted: Estimate
    best: Estimate


def _advantages(measured: _Measured, rng: np.random.Generator) -> _Advantages:
    called = crossfitted_calls(measured.game, rng)
    draw, confidence = measured.resamples, measured.confidence
    if called is None:
        note = "Too few units to choose a threshold on one half and measure it on the other."
        nothing = unresolved("advantage_crossfitted", measured.counts, confidence, note)
        best = best_advantage(AdvantageInterval(0.0, 0.0, 1.0), measured.game, draw, confidence)
        return _Advantages(nothing, _advantage(measured, "advantage", best, f"{_OPTIMISM} {note}"))
    fitted = advantage_at(measured.game, called, draw, confidence)
    best = best_advantage(fitted, measured.game, draw, confidence)
    chosen = "The threshold for each half of the units is the best one of the other half."
    return _Advantages(
        _advantage(measured, "advantage_crossfitted", fitted, chosen),
        _advantage(measured, "advantage", best, _OPTIMISM),
    )


def _advantage(measured: _Measured, name: str, interval: AdvantageInterval, note: str) -> Estimate:
    ends = Interval(np.asarray(interval.low), np.asarray(interval.high))
    method = measured.scaled_method
    if name == "advantage":
        method += "; low end from the cross-fitted threshold"
    return _estimate(measured, name, interval.value, ends, ends, method, note, floor=-1.0)


def _as_accuracy(advantage: Estimate) -> Estimate:
    """Balanced accuracy is (1 + advantage) / 2, end by end."""
    halved = {
        end: None if (number := getattr(advantage, end)) is None else (1 + number) / 2
        for end in ("value", "low", "high")
    }
    renamed = advantage.name.replace("advantage", "balanced_accuracy")
    return Estimate(**{**vars(advantage), **halved, "name": renamed})


def _band(measured: _Measured) -> ROCBand:
    tpr, grid = measured.values.band, measured.points.grid
    drawn = percentile_interval(tpr, measured.replicates.band, measured.confidence)
    n_members = measured.counts.n_members
    exact = clopper_pearson(np.round(tpr * n_members), n_members, measured.confidence)
    resolved = np.array([resolvable(fpr, measured.counts.n_nonmembers) for fpr in grid])
    low, high = np.fmin(drawn.low, exact.low), np.fmax(drawn.high, exact.high)
    return ROCBand(grid, tpr, np.clip(low, 0, 1), np.clip(high, 0, 1), resolved, measured.confidence)


def _too_few(measured: _Measured, name: str, rate: float, kind: str, have: int, at: float | None = None) -> Estimate:
    note = (
        f"A rate of {rate:g} needs at least {negatives_needed(rate):,} {kind} scores, there are {have:,}."
        if rate > 0
        else f"A rate of 0 cannot be resolved by any number of {kind} scores."
    )
    return unresolved(name, measured.counts, measured.confidence, note, rate if at is None else at)


def _estimate(
    measured: _Measured,
    name: str,
    value: float,
    drawn: Interval,
    exact: Interval,
    method: str,
    note: str = "",
    at: float | None = None,
    floor: float = 0.0,
) -> Estimate:
    """The wider of the bootstrap and the exact interval on each side, within the possible range."""
    low = float(np.fmin(np.fmin(drawn.low, exact.low), value))
    high = float(np.fmax(np.fmax(drawn.high, exact.high), value))
    return Estimate(
        name=name,
        value=value,
        low=max(low, floor),
        high=min(high, 1.0),
        n_members=measured.counts.n_members,
        n_nonmembers=measured.counts.n_nonmembers,
        confidence=measured.confidence,
        method=method,
        note=" ".join(filter(None, (note, measured.warning))),
        at=at,
    )
