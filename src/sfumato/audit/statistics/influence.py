"""What each score [targets, units] contributes to a statistic: the basis of clustered variances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfumato.audit.statistics.bootstrap import CrossedGame
from sfumato.audit.statistics.intervals import auc_placements

Floats = NDArray[np.float64]


def auc_influence(game: CrossedGame) -> Floats:
    """Influence of each score on the pooled AUC [targets, units] (DeLong 1988, placement values), 0 outside.

    (placement - AUC) / n of its class; the values of either class sum to 0.
    """
    is_member, is_nonmember = game.in_game & game.members, game.in_game & ~game.members
    placements = auc_placements(game.scores[is_member], game.scores[is_nonmember])
    influence = np.zeros(game.scores.shape)
    value = placements.of_members.mean()
    influence[is_member] = (placements.of_members - value) / game.n_members
    influence[is_nonmember] = (placements.of_nonmembers - value) / game.n_nonmembers
    return influence


def advantage_influence(game: CrossedGame, called: NDArray[np.bool_]) -> Floats:
    """Influence of each score on TPR - FPR at fixed thresholds; `called` [targets, units] says who is called member."""
    is_member, is_nonmember = game.in_game & game.members, game.in_game & ~game.members
    influence = np.zeros(game.scores.shape)
    influence[is_member] = (called[is_member] - called[is_member].mean()) / game.n_members
    influence[is_nonmember] = -(called[is_nonmember] - called[is_nonmember].mean()) / game.n_nonmembers
    return influence
