"""The same metrics target by target: their mean is not the pooled value, and both are reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.audit.statistics.bootstrap import CrossedGame
from sfumato.audit.statistics.intervals import MeanInterval, mean_interval
from sfumato.audit.statistics.roc import ROC, resolvable, roc

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PerTarget:
    """Values of every target model on its own scores, NaN where it cannot be measured on that target.

    Attributes:
        auc: [targets].
        advantage: [targets], maximum over the target's own thresholds, so optimistic.
        fprs: the FPRs asked for [k].
        tpr_at_fpr: [targets, k], NaN where the target has fewer than 10 / fpr nonmember scores.
        n_members: member scores [targets].
        n_nonmembers: nonmember scores [targets].
        auc_mean: mean over targets with its t interval and standard deviation; None below two targets.
        tpr_at_fpr_mean: likewise for each of `fprs`.
    """

    auc: Floats
    advantage: Floats
    fprs: Floats
    tpr_at_fpr: Floats
    n_members: NDArray[np.int64]
    n_nonmembers: NDArray[np.int64]
    auc_mean: MeanInterval | None
    tpr_at_fpr_mean: tuple[MeanInterval | None, ...]


def per_target(game: CrossedGame, fprs: Floats, confidence: float) -> PerTarget:
    """Play the game against each target alone, with its own thresholds."""
    n_members = (game.in_game & game.members).sum(axis=1)
    n_nonmembers = (game.in_game & ~game.members).sum(axis=1)
    n_targets = game.scores.shape[0]
    auc, advantage = np.full(n_targets, np.nan), np.full(n_targets, np.nan)
    tpr = np.full((n_targets, fprs.size), np.nan)
    for target in np.flatnonzero((n_members > 0) & (n_nonmembers > 0)):
        curve = _curve(game, target)
        auc[target] = np.diff(curve.fpr) @ (curve.tpr[1:] + curve.tpr[:-1]) / 2
        advantage[target] = np.max(curve.tpr - curve.fpr)
        at = curve.tpr[np.searchsorted(curve.fpr, fprs + 1e-12, "right") - 1]
        tpr[target] = np.where([resolvable(fpr, n_nonmembers[target]) for fpr in fprs], at, np.nan)
    return PerTarget(
        auc, advantage, fprs, tpr, n_members, n_nonmembers,
        _mean(auc, confidence), tuple(_mean(column, confidence) for column in tpr.T),
    )  # fmt: skip


def _curve(game: CrossedGame, target: np.intp) -> ROC:
    played, truth, scores = game.in_game[target], game.members[target], game.scores[target]
    return roc(scores[played & truth], scores[played & ~truth])


def _mean(values: Floats, confidence: float) -> MeanInterval | None:
    measured = values[~np.isnan(values)]
    return mean_interval(measured, confidence) if measured.size > 1 else None
