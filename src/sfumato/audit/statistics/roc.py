"""The step ROC and what is read off it: AUC, TPR at an FPR, TNR at an FNR, balanced accuracy, advantage, PPV.

Scores are oriented so that higher means member. A threshold t calls every score >= t a member. Scores that tie
are one threshold: no rate is ever interpolated inside a tie or between two thresholds, so every point reported
is one that an attacker can really reach. The one exception is the AUC, where a tied pair counts 1/2
(Mann-Whitney), which is the area under straight lines between the points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import UsageError
from sfumato.validate import in_range

Floats = NDArray[np.float64]

# A rate k/n is a float: without this slack 0.29 * 100 would allow 28 false positives instead of 29.
_ROUNDING = 1e-12
_NEGATIVES_NEEDED = 10


class MemberScores(NamedTuple):
    """Scores of one game: `members` [n_members] and `nonmembers` [n_nonmembers], higher = member."""

    members: Floats
    nonmembers: Floats


class ROC(NamedTuple):
    """Points of a step ROC from (0, 0) to (1, 1), in order of falling threshold.

    Attributes:
        fpr: false-positive rates [points], non-decreasing, in [0, 1].
        tpr: true-positive rates [points], non-decreasing, in [0, 1].
        thresholds: [points]; a score >= thresholds[i] is called member. The first is +inf (nobody is).
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats


def checked_scores(name: str, scores: ArrayLike) -> Floats:
    """`scores` as float64 of any shape; refuses an empty array and NaN (infinite scores are ordered, so fine)."""
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise UsageError(
            f"Expected at least one score in `{name}`, got none.",
            remedy="Play the game with at least one member and one nonmember.",
        )
    missing = int(np.isnan(values).sum())
    if missing:
        raise UsageError(
            f"Expected scores in `{name}` without NaN, got {missing} NaN of {values.size}.",
            remedy="Leave those units out of the game with a mask, or repair the attack that made them.",
        )
    return values


def by_membership(scores: ArrayLike, members: ArrayLike, in_game: ArrayLike | None = None) -> MemberScores:
    """Part `scores` by the truth, so that `auc(*by_membership(scores, members))` works.

    Args:
        scores: any shape, higher = member; NaN is allowed only where `in_game` is False.
        members: booleans of the same shape, True where the unit was in the training set.
        in_game: booleans of the same shape; only True entries are scored. None scores all of them.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(members)
    if truth.dtype != np.bool_ or truth.shape != values.shape:
        raise UsageError(
            f"Expected `members` to be booleans of shape {values.shape}, got {truth.dtype} of shape {truth.shape}.",
            remedy="Pass one True or False per score.",
        )
    played = np.ones(values.shape, bool) if in_game is None else np.broadcast_to(in_game, values.shape).astype(bool)
    return MemberScores(
        checked_scores("the members' scores", values[played & truth]),
        checked_scores("the nonmembers' scores", values[played & ~truth]),
    )


def roc(scores_members: ArrayLike, scores_nonmembers: ArrayLike) -> ROC:
    """Step ROC with one point per distinct score (Fawcett 2006, algorithm 1, ties as one threshold).

    Args:
        scores_members: [n_members], higher = member.
        scores_nonmembers: [n_nonmembers].

    Raises:
        UsageError: a class is empty or a score is NaN.
    """
    members = np.sort(checked_scores("scores_members", scores_members), axis=None)
    nonmembers = np.sort(checked_scores("scores_nonmembers", scores_nonmembers), axis=None)
    falling = np.unique(np.concatenate([members, nonmembers]))[::-1]
    return ROC(
        np.r_[0.0, (nonmembers.size - np.searchsorted(nonmembers, falling, "left")) / nonmembers.size],
        np.r_[0.0, (members.size - np.searchsorted(members, falling, "left")) / members.size],
        np.r_[np.inf, falling],
    )


def auc(scores_members: ArrayLike, scores_nonmembers: ArrayLike) -> float:
    """Chance that a random member outscores a random nonmember, a tie counting 1/2; in [0, 1] (Mann-Whitney)."""
    members = checked_scores("scores_members", scores_members).ravel()
    nonmembers = np.sort(checked_scores("scores_nonmembers", scores_nonmembers), axis=None)
    below = np.searchsorted(nonmembers, members, "left")
    below_or_tied = np.searchsorted(nonmembers, members, "right")
    return float((below + below_or_tied).mean() / (2 * nonmembers.size))


def tpr_at_fpr(scores_members: ArrayLike, scores_nonmembers: ArrayLike, fpr: float) -> float:
    """Largest TPR on the step curve whose FPR is at most `fpr` (in [0, 1]).

    It is returned even where too few nonmembers make it meaningless: ask `resolvable` before you print it.
    """
    in_range("fpr", fpr, 0.0, 1.0)
    curve = roc(scores_members, scores_nonmembers)
    return float(curve.tpr[np.searchsorted(curve.fpr, fpr + _ROUNDING, "right") - 1])


def tnr_at_fnr(scores_members: ArrayLike, scores_nonmembers: ArrayLike, fnr: float) -> float:
    """Largest TNR whose FNR is at most `fnr`: how surely an attacker can say "was not in"."""
    in_range("fnr", fnr, 0.0, 1.0)
    curve = roc(scores_members, scores_nonmembers)
    return float(1 - curve.fpr[np.searchsorted(curve.tpr, 1 - fnr - _ROUNDING, "left")])


def advantage(scores_members: ArrayLike, scores_nonmembers: ArrayLike, threshold: float | None = None) -> float:
    """TPR - FPR at `threshold`, or its maximum over all thresholds (Yeom 2018, 1709.01604, definition 4).

    The maximum is chosen on the scores it is measured on, so it is optimistic, about sqrt(1/n) under the null.
    """
    if threshold is None:
        curve = roc(scores_members, scores_nonmembers)
        return float(np.max(curve.tpr - curve.fpr))
    tpr = np.mean(checked_scores("scores_members", scores_members) >= threshold)
    return float(tpr - np.mean(checked_scores("scores_nonmembers", scores_nonmembers) >= threshold))


def balanced_accuracy(scores_members: ArrayLike, scores_nonmembers: ArrayLike, threshold: float | None = None) -> float:
    """(TPR + TNR) / 2 at `threshold`, or its maximum over all thresholds (optimistic, see `advantage`)."""
    return (1 + advantage(scores_members, scores_nonmembers, threshold)) / 2


def best_threshold(scores_members: ArrayLike, scores_nonmembers: ArrayLike) -> float:
    """The threshold that maximises TPR - FPR; the highest such one where several do."""
    curve = roc(scores_members, scores_nonmembers)
    return float(curve.thresholds[np.argmax(curve.tpr - curve.fpr)])


def ppv(tpr: ArrayLike, fpr: ArrayLike, prior: float) -> Floats:
    """Share of those called members that are members, when a share `prior` of all candidates is.

    PPV = prior TPR / (prior TPR + (1 - prior) FPR) (Jayaraman 2020, 2005.10881, section 4); 0/0 gives NaN.
    `tpr` and `fpr` broadcast; the result has their shape.
    """
    in_range("prior", prior, 0.0, 1.0)
    found = prior * np.asarray(tpr, np.float64)
    called = found + (1 - prior) * np.asarray(fpr, np.float64)
    return np.divide(found, called, out=np.full(np.shape(called), np.nan), where=called > 0)


def negatives_needed(fpr: float) -> int:
    """Fewest nonmember scores at which a TPR at this FPR may be printed: ten expected false positives."""
    in_range("fpr", fpr, 0.0, 1.0)
    return int(np.ceil(_NEGATIVES_NEEDED / fpr * (1 - _ROUNDING))) if fpr > 0 else np.iinfo(np.int64).max


def resolvable(fpr: float, n_nonmembers: int) -> bool:
    """Whether `n_nonmembers` scores can tell this FPR from 0; below 10 / n_nonmembers they cannot."""
    return n_nonmembers >= negatives_needed(fpr)


def thin(curve: ROC, points: int, keep_below_fpr: float = 1e-3) -> ROC:
    """A curve of about `points` points at most, to draw on log-log axes with the same steps.

    Corners with an FPR up to `keep_below_fpr` all stay while they fit; beyond it (and where they do not fit)
    corners are taken evenly in log FPR. Only points are dropped, none is moved, so what remains is reachable.

    Args:
        curve: a step curve as `roc` makes it.
        points: the most points wanted, at least 10.
        keep_below_fpr: the low part that is kept whole.
    """
    if points < 10:
        raise UsageError(f"Expected `points` of at least 10, got {points}.", remedy="Ask for 200 or so.")
    corners = np.flatnonzero(_is_corner(curve))
    low = corners[curve.fpr[corners] <= keep_below_fpr]
    if low.size > points // 2:
        low = low[_evenly_in_log(curve.fpr[low], points // 2)]
    high = corners[curve.fpr[corners] > keep_below_fpr]
    if low.size + high.size > points:
        high = high[_evenly_in_log(curve.fpr[high], points - low.size)]
    kept = np.union1d(low, high)
    return ROC(curve.fpr[kept], curve.tpr[kept], curve.thresholds[kept])


def _is_corner(curve: ROC) -> NDArray[np.bool_]:
    """Both ends, and each point where the curve stops rising or stops running to the right."""
    run, rise = np.diff(curve.fpr) > 0, np.diff(curve.tpr) > 0
    straight = (run[:-1] & run[1:] & ~rise[:-1] & ~rise[1:]) | (rise[:-1] & rise[1:] & ~run[:-1] & ~run[1:])
    return np.r_[True, ~straight, True]


def _evenly_in_log(fpr: Floats, count: int) -> NDArray[np.intp]:
    """Indices of at most `count` of the rising `fpr` values, first and last included, evenly spread in log."""
    logs = np.log(np.maximum(fpr, max(fpr[fpr > 0].min(initial=1.0) / 2, 1e-300)))
    wanted = np.linspace(logs[0], logs[-1], count)
    return np.unique(np.clip(np.searchsorted(logs, wanted, "left"), 0, fpr.size - 1))
