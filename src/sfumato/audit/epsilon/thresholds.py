"""Honest ways to choose the threshold of a bound: whoever looks at the scores first has to pay for it.

A bound computed at every threshold of which the best is reported exceeds the truth far more often than its
confidence says. Each choice below pays in another coin: foresight, confidence, or half of the scores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.audit.statistics.roc import MemberScores, checked_scores, roc
from sfumato.errors import UsageError
from sfumato.validate import at_least

Floats = NDArray[np.float64]


class ErrorCounts(NamedTuple):
    """Wrong guesses at one or several thresholds.

    Attributes:
        false_negatives: members called nonmember, scalar or [thresholds].
        members: scores of members.
        false_positives: nonmembers called member, scalar or [thresholds].
        nonmembers: scores of nonmembers.
    """

    false_negatives: Floats
    members: int
    false_positives: Floats
    nonmembers: int


Certifier = Callable[[ErrorCounts, float], Floats]
"""From counts and alpha to a lower bound [thresholds] that exceeds the truth with probability alpha at most, at
each threshold fixed in advance. Any increasing scale; it may be negative or -inf where nothing is shown."""


class Certified(NamedTuple):
    """The best a choice could certify, on the certifier's scale, with what a perfect attacker would have got."""

    value: float
    ceiling: float
    detail: dict[str, float | int | str]


class AbstractThresholdChoice(ABC):
    """How the threshold of a bound is chosen. A score >= threshold is called member."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A few words for the name of the method."""

    @abstractmethod
    def certify(
        self, scores: MemberScores, bound: Certifier, alpha: float, rng: np.random.Generator | None
    ) -> Certified:
        """The bound that holds with probability 1 - alpha whatever the scores were."""


@final
@dataclass(frozen=True)
class FixedThreshold(AbstractThresholdChoice):
    """A threshold written down before any score was seen, or taken from other models: nothing to pay."""

    threshold: float

    @property
    def label(self) -> str:
        """See base."""
        return "threshold fixed in advance"

    def certify(
        self, scores: MemberScores, bound: Certifier, alpha: float, rng: np.random.Generator | None
    ) -> Certified:
        """See base."""
        counts = counts_at(scores, self.threshold)
        detail = {"threshold": self.threshold, **_counts_detail(counts)}
        return Certified(float(bound(counts, alpha)), _perfect(counts, bound, alpha), detail)


@final
@dataclass(frozen=True)
class HullVertices(AbstractThresholdChoice):
    """Every vertex of the ROC's concave hull, alpha shared among them (Bonferroni).

    The vertices are found on the scores they certify, so Bonferroni over them is not a theorem: it is
    supported by simulation (well under alpha at 50 to 5,000 scores a side). `RankGrid` is the proven cousin.
    """

    @property
    def label(self) -> str:
        """See base."""
        return "Bonferroni over the vertices of the ROC hull"

    def certify(
        self, scores: MemberScores, bound: Certifier, alpha: float, rng: np.random.Generator | None
    ) -> Certified:
        """See base."""
        thresholds = hull_thresholds(scores)
        if thresholds.size == 0:
            return Certified(-np.inf, _perfect(counts_at(scores, 0.0), bound, alpha), {"thresholds": 0})
        counts = counts_at(scores, thresholds)
        values = bound(counts, alpha / thresholds.size)
        best = int(np.argmax(values))
        detail = {"thresholds": thresholds.size, "threshold": float(thresholds[best])}
        return Certified(float(values[best]), _perfect(counts, bound, alpha), detail)


@final
@dataclass(frozen=True)
class RankGrid(AbstractThresholdChoice):
    """Thresholds at ranks 0, 1, 2, 4, 8, ... of either class, alpha shared among them (proven Bonferroni).

    The ranks depend on the sizes only. At the nonmember of rank k the false-positive rate is a Beta(k + 1,
    n - k) variable, whose quantile is exactly the Clopper-Pearson limit of k out of n, and the members are
    independent of that threshold, so their count is binomial; likewise with the classes exchanged.
    """

    @property
    def label(self) -> str:
        """See base."""
        return "Bonferroni over a grid of ranks"

    def certify(
        self, scores: MemberScores, bound: Certifier, alpha: float, rng: np.random.Generator | None
    ) -> Certified:
        """See base."""
        counts = _rank_counts(scores)
        values = bound(counts, alpha / counts.false_negatives.size)
        best = int(np.argmax(values))
        detail: dict[str, float | int | str] = {
            "thresholds": values.size,
            "false_negatives": int(counts.false_negatives[best]),
            "false_positives": int(counts.false_positives[best]),
        }
        return Certified(float(values[best]), _perfect(counts, bound, alpha / values.size), detail)


@final
@dataclass(frozen=True)
class HalfSplit(AbstractThresholdChoice):
    """Choose on a random part of either class, certify on the rest; `chosen_on` is the share to choose on."""

    chosen_on: float = 0.5

    def __post_init__(self) -> None:
        _check_share(self.chosen_on)

    @property
    def label(self) -> str:
        """See base."""
        return "threshold from a half split"

    def certify(
        self, scores: MemberScores, bound: Certifier, alpha: float, rng: np.random.Generator | None
    ) -> Certified:
        """See base."""
        chosen, judged = _split(scores, self.chosen_on, _needed(rng, "HalfSplit"))
        threshold = _best_on(chosen, bound, alpha)
        counts = counts_at(judged, threshold)
        detail = {"threshold": threshold, **_counts_detail(counts)}
        return Certified(float(bound(counts, alpha)), _perfect(counts, bound, alpha), detail)


@final
@dataclass(frozen=True)
class RandomSplits(AbstractThresholdChoice):
    """The median of `splits` half splits at alpha / 2: steadier than one split, and still valid.

    Twice the median of dependent p-values is a p-value (Meinshausen 2009, 0811.2177, theorem 3.1).
    """

    splits: int = 25
    chosen_on: float = 0.5

    def __post_init__(self) -> None:
        at_least("splits", self.splits, 1)
        _check_share(self.chosen_on)

    @property
    def label(self) -> str:
        """See base."""
        return f"median of {self.splits} random splits"

    def certify(
        self, scores: MemberScores, bound: Certifier, alpha: float, rng: np.random.Generator | None
    ) -> Certified:
        """See base."""
        generator, split = _needed(rng, "RandomSplits"), HalfSplit(self.chosen_on)
        runs = [split.certify(scores, bound, alpha / 2, generator) for _ in range(self.splits)]
        values = np.sort([run.value for run in runs])
        # The lower median of an even number: it is a bound that was certified, and never above the median.
        return Certified(float(values[(self.splits - 1) // 2]), runs[0].ceiling, {"splits": self.splits})


def counts_at(scores: MemberScores, thresholds: ArrayLike) -> ErrorCounts:
    """Errors when a score >= threshold is called member, at one threshold or several [thresholds]."""
    members, nonmembers = np.sort(scores.members), np.sort(scores.nonmembers)
    return ErrorCounts(
        np.searchsorted(members, thresholds, "left").astype(np.float64),
        members.size,
        (nonmembers.size - np.searchsorted(nonmembers, thresholds, "left")).astype(np.float64),
        nonmembers.size,
    )


def hull_thresholds(scores: MemberScores) -> Floats:
    """Thresholds at the vertices of the ROC's upper concave hull, without its ends (0, 0) and (1, 1)."""
    curve = roc(*scores)
    kept = np.arange(curve.fpr.size)
    while kept.size > 2:
        run, rise = np.diff(curve.fpr[kept]), np.diff(curve.tpr[kept])
        # A vertex stays if the slope falls there; the slack keeps rounding from adding collinear vertices.
        falls = rise[:-1] * run[1:] - rise[1:] * run[:-1] > 1e-14
        if falls.all():
            break
        kept = kept[np.r_[True, falls, True]]
    return curve.thresholds[kept[1:-1]]


def checked_pair(scores_members: ArrayLike, scores_nonmembers: ArrayLike) -> MemberScores:
    """Both classes as flat float64 arrays, refused if empty or NaN."""
    return MemberScores(
        checked_scores("scores_members", scores_members).ravel(),
        checked_scores("scores_nonmembers", scores_nonmembers).ravel(),
    )


def _perfect(counts: ErrorCounts, bound: Certifier, alpha: float) -> float:
    none = np.float64(0.0)
    return float(bound(ErrorCounts(np.asarray(none), counts.members, np.asarray(none), counts.nonmembers), alpha))


def _counts_detail(counts: ErrorCounts) -> dict[str, float | int | str]:
    return {
        "false_negatives": int(counts.false_negatives),
        "members": counts.members,
        "false_positives": int(counts.false_positives),
        "nonmembers": counts.nonmembers,
    }


def _best_on(scores: MemberScores, bound: Certifier, alpha: float) -> float:
    thresholds = hull_thresholds(scores)
    if thresholds.size == 0:
        return float(np.median(np.concatenate(scores)))
    return float(thresholds[np.argmax(bound(counts_at(scores, thresholds), alpha))])


def _rank_counts(scores: MemberScores) -> ErrorCounts:
    """Counts at the rank thresholds; a tie counts as the full rank, which can only weaken the bound."""
    members, nonmembers = np.sort(scores.members), np.sort(scores.nonmembers)
    by_nonmember, by_member = _doubling(nonmembers.size), _doubling(members.size)
    missed = np.searchsorted(members, nonmembers[::-1][by_nonmember], "right")
    caught = nonmembers.size - np.searchsorted(nonmembers, members[by_member], "left")
    return ErrorCounts(
        np.r_[missed, by_member].astype(np.float64),
        members.size,
        np.r_[by_nonmember, caught].astype(np.float64),
        nonmembers.size,
    )


def _doubling(size: int) -> NDArray[np.intp]:
    return np.array([0, *(2**power for power in range(size.bit_length()) if 2**power < size)], dtype=np.intp)


class _Split(NamedTuple):
    chosen: MemberScores
    judged: MemberScores


def _split(scores: MemberScores, share: float, rng: np.random.Generator) -> _Split:
    smallest = min(scores.members.size, scores.nonmembers.size)
    if smallest < 2:
        raise UsageError(
            f"Expected at least 2 scores in either class to split them, got {smallest}.",
            remedy="Use `FixedThreshold`, or play more trials.",
        )
    parts = [_cut(rng.permutation(values), share) for values in scores]
    return _Split(MemberScores(parts[0].first, parts[1].first), MemberScores(parts[0].rest, parts[1].rest))


class _Cut(NamedTuple):
    first: Floats
    rest: Floats


def _cut(values: Floats, share: float) -> _Cut:
    at = min(max(round(share * values.size), 1), values.size - 1)
    return _Cut(values[:at], values[at:])


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise UsageError(f"Expected `chosen_on` inside (0, 1), got {share}.", remedy="0.5 is the usual share.")


def _needed(rng: np.random.Generator | None, name: str) -> np.random.Generator:
    if rng is None:
        raise UsageError(
            f"Expected a random generator for {name}, got none.", remedy="Pass rng=numpy.random.default_rng(seed)."
        )
    return rng
