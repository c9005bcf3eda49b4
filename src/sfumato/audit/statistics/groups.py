"""Whether an attack finds some groups of units more easily than others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.audit.statistics.bootstrap import crossed_game
from sfumato.audit.statistics.estimate import Counts, Estimate, unresolved
from sfumato.audit.statistics.intervals import checked_confidence
from sfumato.audit.statistics.pooled import summarise
from sfumato.errors import UsageError


@dataclass(frozen=True)
class GroupSummary:
    """One group of one grouping, e.g. grouping "sex", group "female"; the group has its own thresholds."""

    grouping: str
    group: str
    n_units: int
    auc: Estimate
    tpr_at_fpr: Estimate


def by_group(
    scores: ArrayLike,
    members: ArrayLike,
    groupings: Mapping[str, ArrayLike],
    in_game: ArrayLike | None = None,
    *,
    fpr: float = 1e-2,
    confidence: float = 0.95,
    replicates: int = 200,
    rng: np.random.Generator,
) -> tuple[GroupSummary, ...]:
    """AUC and TPR at `fpr` of each group against its own nonmembers.

    Intervals hold for all groups at once: each is made at 1 - (1 - confidence) / number of groups (Bonferroni),
    so the largest of many groups is not a discovery by itself. `confidence` of each estimate says that level.

    Args:
        scores: [targets, units], as for `summarise`.
        members: booleans [targets, units].
        groupings: name -> labels [units] of any type; a unit is in one group of each grouping.
        in_game: booleans [targets, units] or [units].
        fpr: within the group.
        confidence: of all intervals together.
        replicates: bootstrap replicates; more are needed the more groups there are.
        rng: draws clusters.
    """
    checked_confidence(confidence)
    game = crossed_game(scores, members, in_game)
    labels = {name: _labels(name, values, game.scores.shape[1]) for name, values in groupings.items()}
    parts = [(name, group) for name, values in labels.items() for group in np.unique(values)]
    level = 1 - (1 - confidence) / max(len(parts), 1)
    out: list[GroupSummary] = []
    for name, group in parts:
        inside = labels[name] == group
        played, truth = game.in_game[:, inside], game.members[:, inside]
        counts = Counts(int((played & truth).sum()), int((played & ~truth).sum()))
        if min(counts.n_members, counts.n_nonmembers) == 0:
            note = f"The group has {counts.n_members} member and {counts.n_nonmembers} nonmember scores."
            auc = unresolved("auc", counts, level, note)
            out.append(GroupSummary(name, str(group), int(inside.sum()), auc,
                                    unresolved("tpr_at_fpr", counts, level, note, fpr)))  # fmt: skip
            continue
        found = summarise(
            game.scores[:, inside], truth, played,
            fprs=(fpr,), priors=(), confidence=level, replicates=replicates, rng=rng,
        )  # fmt: skip
        out.append(GroupSummary(name, str(group), int(inside.sum()), found.auc, found.tpr_at_fpr[0]))
    return tuple(out)


def _labels(name: str, values: ArrayLike, n_units: int) -> NDArray[np.str_]:
    labels = np.asarray(values).astype(str)
    if labels.shape != (n_units,):
        raise UsageError(
            f"Expected one label per unit in grouping {name!r}, shape {(n_units,)}, got {labels.shape}.",
            remedy="Give a label to every unit, a word such as 'unknown' where there is none.",
        )
    return labels
