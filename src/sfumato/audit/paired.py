"""Two recipes side by side, on the same training sets and seeds: differences per target, and intervals for their mean.

Targets are no independent samples. Two complementary ones are judged on the same split, and all are judged with nearly
the same references, whose chance errors differ from unit to unit and are the same for every target. So model pairs and
units are both clusters: pairs by themselves (t interval over pairs) miss half of the variance with few models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

from sfumato.audit.record import Finding
from sfumato.audit.statistics import paired_difference
from sfumato.audit.statistics.bootstrap import CrossedVariance
from sfumato.audit.statistics.intervals import auc_placements
from sfumato.audit.statistics.roc import resolvable, roc
from sfumato.types import Bools, Floats

PerTarget = Callable[[Floats, Bools, Bools], Floats]
GROUPS = 12  # of units, left out one after the other
_METHOD = "paired difference; t interval with complementary pairs of targets and units as clusters (jackknife)"
_PAIRS = "paired t interval over complementary pairs of models, trained on the same records with the same seeds"


def aucs(scores: Floats, members: Bools, played: Bools) -> Floats:
    """float64 [targets]: AUC of each target on its own; `scores` and `members` [targets, units], `played` [units]."""
    return np.array(
        [auc_placements(s[m & played], s[~m & played]).of_members.mean() for s, m in zip(scores, members, strict=True)]
    )


def rates_at(fpr: float) -> PerTarget:
    """TPR of each target at its own threshold with at most this false positive rate, as a function like `aucs`."""

    def rates(scores: Floats, members: Bools, played: Bools) -> Floats:
        found = []
        for s, m in zip(scores, members, strict=True):
            curve = roc(s[m & played], s[~m & played])
            found.append(curve.tpr[np.searchsorted(curve.fpr, fpr + 1e-12, "right") - 1])
        return np.array(found)

    return rates


def resolved(members: Bools, in_game: Bools, fpr: float) -> bool:
    """Whether every target has non-members enough for this rate; `members` [targets, units]."""
    return all(resolvable(fpr, int((~m & in_game).sum())) for m in members)


def difference_of_scores(
    scores: Floats, base: Floats, members: Bools, in_game: Bools, measure: PerTarget, name: str, confidence: float
) -> Finding:
    """Mean over targets of a measure of `scores` less that of `base`.

    Args:
        scores: float64 [targets, units], NaN outside the game.
        base: float64 [targets, units], of the other recipe.
        members: bool [targets, units]; targets 2k and 2k+1 are complements.
        in_game: bool [units].
        measure: `aucs` or `rates_at(fpr)`.
        name: of the finding.
        confidence: of the interval, in (0, 1).
    """
    groups = _unit_groups(in_game)
    if len(scores) < 4 or len(groups) < 2:
        return unresolved_difference(name, confidence, "Needs 4 targets and two units of each kind.")
    whole = _by_pair(measure(scores, members, in_game) - measure(base, members, in_game))
    left_out = np.stack([
        _by_pair(measure(scores, members, in_game & ~group) - measure(base, members, in_game & ~group))
        for group in groups
    ])  # fmt: skip
    variance = _crossed(whole, left_out)
    pairs = len(whole)
    spread = variance.targets**2 / (pairs - 1) + variance.units**2 / (len(groups) - 1)
    reach = 0.0
    if spread > 0:
        freedom = variance.total**2 / spread
        reach = -float(stdtrit(freedom, (1 - confidence) / 2)) * float(np.sqrt(variance.total))
    mean = float(whole.mean())
    return Finding(name=name, value=mean, low=mean - reach, high=mean + reach, confidence=confidence, method=_METHOD)


def paired(values: Floats, base: Floats, name: str, confidence: float) -> Finding:
    """Mean of `values - base` over models that no other model judges, with a t interval over complementary pairs.

    Args:
        values: float64 [models], models 2k and 2k+1 are complements; NaN where it could not be measured.
        base: float64 [models], likewise, for the same training sets and seeds.
        name: of the finding.
        confidence: of the interval, in (0, 1).
    """
    difference = values - base
    if not np.isfinite(difference).all() or len(difference) < 4:
        count = int(np.isfinite(difference).sum())
        return unresolved_difference(name, confidence, f"Needs 4 models on each of which it is defined, got {count}.")
    halves = _by_pair(difference)
    ci = paired_difference(halves, np.zeros(len(halves)), confidence)
    return Finding(name=name, value=ci.mean, low=ci.low, high=ci.high, confidence=confidence, method=_PAIRS)


def unresolved_difference(name: str, confidence: float, note: str) -> Finding:
    """A difference that the data cannot resolve, and why."""
    return Finding(name=name, value=None, low=None, high=None, resolvable=False, note=note, confidence=confidence)


def _by_pair(values: Floats) -> Floats:
    return (values[0::2] + values[1::2]) / 2


def _unit_groups(in_game: Bools) -> list[Bools]:
    """Up to `GROUPS` disjoint sets of the units in the game, equally large; their order in the data plays no part."""
    units = np.random.default_rng(0).permutation(np.flatnonzero(in_game))
    parts = np.array_split(units, min(GROUPS, len(units) // 8)) if len(units) >= 16 else []
    return [np.isin(np.arange(len(in_game)), part) for part in parts]


def _crossed(whole: Floats, left_out: Floats) -> CrossedVariance:
    """Variance of the mean over pairs [pairs]; `left_out` [groups, pairs] without each group of units."""
    pairs, groups = len(whole), len(left_out)
    shrink = (groups - 1) / groups
    over_units = shrink * float(((left_out.mean(axis=1) - left_out.mean()) ** 2).sum())
    each = shrink * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return CrossedVariance(
        targets=float(whole.var(ddof=1)) / pairs, units=over_units, cells=float(each.sum()) / pairs**2
    )
