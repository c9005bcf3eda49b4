"""From answers of many targets to findings with intervals that know which answers belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sfumato.audit.inverted import Level, Measure
from sfumato.audit.measured import Finding
from sfumato.audit.statistics.crossed import (
    FEWEST_PAIRS,
    Limits,
    Spread,
    contrast_influence,
    mean_influence,
    put_together,
    ratio_influence,
    share_limits,
    spread,
    t_limits,
    unseen,
    wider,
)
from sfumato.types import Bools, Floats, Ints

_OPEN = Limits(None, None)
Kind = Literal["numbers", "shares", "paired shares"]  # paired: of the same records, and nearly always alike


@dataclass(frozen=True, eq=False)
class Answers:
    """Whom answers belong to.

    Args:
        pairs: int64 [targets, q], the complementary pair that each target is of.
        clusters: int64 [targets, q], the class, step or unit.
        of: what the clusters are, in the plural.
        confidence: of each interval.
    """

    pairs: Ints
    clusters: Ints
    of: str
    confidence: float

    def share(self, name: str, values: Floats, **more: float | str) -> Finding:
        """Mean of values [targets, q] in [0, 1]; NaN is left out."""
        kept = _Kept.of(values, self)
        if not len(kept.values):
            return self.nothing(name, "Nothing could be compared.")
        value, seen = float(np.clip(kept.values.mean(), 0, 1)), kept.spread(mean_influence(kept.values))
        limits = share_limits(value, seen, len(kept.values), self.confidence)
        return self._finding(name, value, limits, seen, "binomial limits at the effective number of trials", **more)

    def mean(self, name: str, values: Floats, low: float = -np.inf, **more: float | str) -> Finding:
        """Mean of values [targets, q], none of which is below `low`; NaN is left out."""
        kept = _Kept.of(values, self)
        if not len(kept.values):
            return self.nothing(name, "Nothing could be compared.")
        value, seen = float(kept.values.mean()), kept.spread(mean_influence(kept.values))
        return self._finding(name, value, _cut(t_limits(value, seen, self.confidence), low), seen, "t interval", **more)

    def difference(self, name: str, attacked: Floats, control: Floats, kind: Kind) -> Finding:
        """Mean of attacked - control, both [targets, q]; NaN in either is left out."""
        kept = _Kept.of(attacked - control, self)
        if not len(kept.values):
            return self.nothing(name, "Nothing could be compared.")
        value, seen = float(kept.values.mean()), kept.spread(mean_influence(kept.values))
        if kind == "numbers":
            return self._contrast(name, value, seen, np.inf)
        if kind == "paired shares":
            return self._contrast(name, value, seen, 1.0)
        both = np.isfinite(attacked - control)
        own, other = (_Kept.of(np.where(both, one, np.nan), self) for one in (attacked, control))
        spread_of_other = other.spread(mean_influence(other.values))
        of_other = _cut(t_limits(float(other.values.mean()), spread_of_other, self.confidence), 0.0, 1.0)
        shares = (float(own.values.mean()), float(other.values.mean()))
        return self._contrast(name, value, seen, 1.0, put_together(value, self._limits(own), of_other, shares))

    def ratio(self, name: str, part: Floats, whole: Floats) -> Finding:
        """sum(part) / sum(whole), a share; both [targets, q], part at most whole."""
        kept, total = _Kept.of(part, self), whole[np.isfinite(part)]
        value = float(np.clip(kept.values.sum() / total.sum(), 0, 1))
        counted = int((total > 0).sum())
        seen = kept.spread(ratio_influence(kept.values, total))._replace(
            clusters=len(np.unique(self.clusters[np.isfinite(part)][total > 0]))
        )
        limits = share_limits(value, seen, counted, self.confidence)
        return self._finding(name, value, limits, seen, "binomial limits at the effective number of trials")

    def between(self, name: str, values: Floats, members: Bools, reach: float = 1.0) -> Finding:
        """Mean of values [targets, q] of members less that of the others, which is in [-reach, reach]."""
        kept = _Kept.of(values, self)
        first = members[np.isfinite(values)]
        if first.all() or not first.any():
            return self.nothing(name, "There are only members, or only others.")
        shares = (float(kept.values[first].mean()), float(kept.values[~first].mean()))
        value, seen = shares[0] - shares[1], kept.spread(contrast_influence(kept.values, first))
        if reach > 1:
            return self._contrast(name, value, seen, reach)
        apart = put_together(value, self._limits(kept.only(first)), self._limits(kept.only(~first)), shares)
        return self._contrast(name, value, seen, reach, apart)

    def nothing(self, name: str, note: str) -> Finding:
        """A number that the data cannot resolve, and why."""
        return Finding(
            name=name, value=None, low=None, high=None, resolvable=False, note=note, confidence=self.confidence
        )

    def _limits(self, kept: _Kept) -> Limits:
        """Of a share."""
        seen = kept.spread(mean_influence(kept.values))
        return share_limits(float(np.clip(kept.values.mean(), 0, 1)), seen, len(kept.values), self.confidence)

    def _contrast(self, name: str, value: float, seen: Spread, reach: float, also: Limits = _OPEN) -> Finding:
        least = unseen(seen.clusters, self.confidence) if np.isfinite(reach) and also.low is None else 0.0
        limits = _cut(wider(t_limits(value, seen, self.confidence, least), also), -reach, reach)
        how = "t interval" if also.low is None else "t interval, or limits of both shares put together where wider"
        return self._finding(name, value, limits, seen, how)

    def _finding(
        self, name: str, value: float, limits: Limits, seen: Spread, method: str, **more: float | str
    ) -> Finding:
        if limits.low is None:
            how = f"no interval: {self.of} are the clusters, and there is one"
        else:
            how = f"{method}; clusters: {self.of}{self._targets(seen)}"
        return Finding.model_validate(
            {"name": name, "value": value, **limits._asdict(), "confidence": self.confidence, "method": how, **more}
        )

    def _targets(self, seen: Spread) -> str:
        if seen.pairs_vary:
            return ", crossed with complementary pairs of targets"
        return f"; fewer than {FEWEST_PAIRS} pairs of targets, so it speaks of these models only"


class _Kept(NamedTuple):
    """The finite values, flat, and whom they belong to."""

    values: Floats
    pairs: Ints
    clusters: Ints

    @classmethod
    def of(cls, values: Floats, answers: Answers) -> _Kept:
        finite = np.isfinite(values)
        return cls(values[finite].astype(np.float64), answers.pairs[finite], answers.clusters[finite])

    def only(self, chosen: Bools) -> _Kept:
        return _Kept(self.values[chosen], self.pairs[chosen], self.clusters[chosen])

    def spread(self, influence: Floats) -> Spread:
        return spread(influence, self.pairs, self.clusters)


def in_pairs(targets: int, questions: int) -> Ints:
    """int64 [targets, questions]: targets 2i and 2i + 1 are pair i."""
    return np.repeat(np.arange(targets) // 2, questions).reshape(targets, questions)


def certain(name: str, value: float, why: str) -> Finding:
    """A number that follows from the rules of the game."""
    return Finding(name=name, value=value, low=value, high=value, confidence=1.0, method=why)


def shifted(finding: Finding, by: float, name: str) -> Finding:
    """The finding less a number that is known."""
    if finding.value is None:
        return finding.model_copy(update={"name": name})
    ends = {end: None if (v := getattr(finding, end)) is None else v - by for end in ("low", "high")}
    return finding.model_copy(update={"name": name, "value": finding.value - by, "at": None, **ends})


def unmeasured(name: str, level: Level, more: str, answers: Answers, note: str) -> Measure:
    """A measure that the data cannot resolve, and why."""
    return Measure.model_validate({"name": name, "level": level, "more": more, "attacked": answers.nothing(name, note)})


def average(values: Floats) -> Floats:
    """Mean over the last axis; NaN where all are NaN."""
    counted = np.isfinite(values).sum(axis=-1)
    return np.where(counted, np.nansum(values, axis=-1) / np.maximum(counted, 1), np.nan)


PerQuestion = Callable[[int, int], Floats | float]


def grid(targets: int, questions: int, value: PerQuestion, width: int = 1) -> Floats:
    """float64 [targets, questions, width]: `value(target, question)` for each."""
    return np.array(
        [[np.broadcast_to(value(t, i), width) for i in range(questions)] for t in range(targets)], np.float64
    ).reshape(targets, questions, width)


def _cut(limits: Limits, low: float, high: float = np.inf) -> Limits:
    if limits.low is None or limits.high is None:
        return limits
    return Limits(max(limits.low, low), min(limits.high, high))
