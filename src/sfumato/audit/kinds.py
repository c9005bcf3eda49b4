"""Kinds of canaries, each judged by itself with the attack that finds it best: an average hides the worst kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfumato.audit.findings import few, finding, without_small
from sfumato.audit.game import Game, Played
from sfumato.audit.record import GroupResult
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import Counts, unresolved
from sfumato.audit.verdict import strongest_of
from sfumato.data.canaries import GROUP, KINDS
from sfumato.types import Strings

RATES = (0.01, 0.001)  # what Aerni et al. (arXiv 2404.17399) quote, and what fewer canaries can resolve


def by_kind(game: Game, played: Sequence[Played], kinds: Strings, settings: AuditSettings) -> list[GroupResult]:
    """For each kind of canary the attack that finds it best, against non-members of the same kind.

    Intervals hold for all kinds at once (Bonferroni), not for the choice among the attacks.

    Args:
        game: that was played.
        played: every attack that ran, at least one.
        kinds: text [units].
        settings: for level, replicates, seed and FPRs.
    """
    labels = np.where(np.isin(kinds, KINDS), kinds, without_small(kinds, game.in_game))  # kinds of ours name nobody
    several = np.unique(labels[game.in_game])
    return [_of_kind(game, played, str(kind), labels == kind, len(several), settings) for kind in several]


def _of_kind(
    game: Game, played: Sequence[Played], kind: str, only: np.ndarray, among: int, settings: AuditSettings
) -> GroupResult:
    fprs = [fpr for fpr in RATES if fpr in settings.fprs] or list(RATES[:1])
    inside = game.members[:, only & game.in_game]
    if not inside.any() or inside.all():
        counts = Counts(int(inside.sum()), int((~inside).sum()))
        note = f"The kind has {counts.n_members} member and {counts.n_nonmembers} nonmember scores."
        level = 1 - (1 - settings.confidence) / among
        empty = [unresolved("auc", counts, level, note)]
        empty += [unresolved("tpr_at_fpr", counts, level, note, fpr) for fpr in fprs]
        return GroupResult(column=GROUP, group=kind, attack="none", findings=[finding(one) for one in empty])
    rows = [
        GroupResult(
            column=GROUP,
            group=kind,
            attack=one.attack.name,
            findings=few(one, game, settings, fprs, only=only, among=among),
        )
        for one in played
    ]
    return strongest_of(rows) or rows[0]
