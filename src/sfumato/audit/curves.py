"""Leakage at equal accuracy: the settings of one method as points of a curve, read between the points.

A method with a dial is no point but a curve, and two methods are compared where they are equally accurate. Contenders
named `METHOD@STRENGTH` are points of the curve of METHOD. They stand in the order of their accuracies, with straight
lines between neighbours; points of equal accuracy are joined into their mean. Nothing is read beyond the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import Field

from sfumato.audit.measured import Finding, Value
from sfumato.audit.statistics import Interval, clopper_pearson, percentile_interval
from sfumato.types import Floats

SIGN = "@"
EVERY_KIND, WORST_KIND = "all", "worst"
BOOTSTRAP = "bootstrap over complementary pairs of targets and over units, at least as wide as the exact interval"
CORNERS = "ends of the intervals of all points whose lines may pass this accuracy"


class StrengthPoint(Value):
    """One setting of a method. `kind` is the kind of canaries that the leakage is of, "" for all units in the game.

    `relative_time` is its training time as a multiple of that of the undefended contender, None without one.
    """

    subject: str
    strength: str
    attack: str
    accuracy: Finding
    leakage: list[Finding]
    kind: str = ""
    relative_time: float | None = None

    def measured(self, name: str, at: float | None) -> Finding | None:
        """The leakage called `name` at the false positive rate `at`, where it has a value."""
        return next((f for f in self.leakage if (f.name, f.at) == (name, at) and f.value is not None), None)


class StrengthCurve(Value):
    """The settings of one method, by rising accuracy."""

    method: str
    points: list[StrengthPoint]


class AtAccuracy(Value):
    """What a method leaks at a given accuracy; findings without a value say that its curve does not get there."""

    method: str
    accuracy: float
    below: float
    leakage: list[Finding]


class EqualAccuracy(Value):
    """Leakage of `subject` less that of `baseline` in the middle of the accuracies that both curves reach.

    `accuracy` is None where they reach none in common; `note` says which is the more accurate then.
    """

    subject: str
    baseline: str
    accuracy: float | None
    differences: list[Finding] = Field(default_factory=list)
    note: str = ""


class GroupFrontier(Value):
    """All curves for one group of units: "all", or "worst": for each point the kind of canaries that leaks most."""

    group: str
    curves: list[StrengthCurve]
    at_accuracies: list[AtAccuracy]
    differences: list[EqualAccuracy]


class Frontier(Value):
    """Accuracy against leakage over the strengths of every method.

    `reference` is the contender that accuracies and times are counted from; `method` says how intervals were made.
    """

    reference: str
    confidence: float
    method: str
    groups: list[GroupFrontier]

    def group(self, name: str) -> GroupFrontier | None:
        """The curves of "all" or "worst", or None."""
        return next((group for group in self.groups if group.group == name), None)


class Name(NamedTuple):
    """A contender's name taken apart."""

    method: str
    strength: str


def split_name(name: str) -> Name | None:
    """`METHOD@STRENGTH` taken apart at the last sign; None for a name of another form."""
    method, sign, strength = name.rpartition(SIGN)
    return Name(method, strength) if sign and method and strength else None


class Line(NamedTuple):
    """Points by rising accuracy, no accuracy twice: both float64 [k]."""

    accuracy: Floats
    leakage: Floats


def line_of(accuracy: Floats, leakage: Floats) -> Line:
    """The line through points [k] in any order; those of equal accuracy become their mean."""
    across, where = np.unique(np.asarray(accuracy, np.float64), return_inverse=True)
    return Line(across, np.bincount(where, np.asarray(leakage, np.float64)) / np.bincount(where))


def leakage_at(line: Line, accuracy: float) -> float:
    """Leakage on the line, linear between neighbours; NaN where the line does not reach the accuracy."""
    if not line.accuracy[0] <= accuracy <= line.accuracy[-1]:
        return float("nan")
    return float(np.interp(accuracy, *line))


@dataclass(frozen=True, eq=False)
class Replicated:
    """A curve with its bootstrap: the sample itself is the first row.

    Args:
        accuracy: float64 [1 + replicates, points].
        leakage: float64 [1 + replicates, points], from the same draws.
        members: member scores behind each leakage, for the exact interval of a rate.
        rate: whether the leakage is a rate.
    """

    accuracy: Floats
    leakage: Floats
    members: int
    rate: bool = True

    @property
    def sample(self) -> Line:
        """The line of the sample."""
        return line_of(self.accuracy[0], self.leakage[0])

    def held(self, at: Floats) -> Floats:
        """[1 + replicates]: leakage of each replicate at its accuracy `at`; beyond its ends that of the end."""
        lines = (line_of(*row) for row in zip(self.accuracy, self.leakage, strict=True))
        return np.array([np.interp(x, *line) for x, line in zip(at, lines, strict=True)])


class Reading(NamedTuple):
    """A value with its interval."""

    value: float
    low: float
    high: float


def reading_at(curve: Replicated, accuracy: float, confidence: float) -> Reading | None:
    """Leakage of the sample at an accuracy, None where its curve does not get there.

    The interval is that of the bootstrap (replicates that do not get there count with their nearest end), and at least
    the exact one of the rate: replicates of a rate of 0 are all 0.
    """
    value = leakage_at(curve.sample, accuracy)
    if np.isnan(value):
        return None
    drawn = _drawn(curve.held(np.full(len(curve.accuracy), accuracy)), confidence)
    exact = _exact(curve, value, confidence)
    return Reading(value, float(min(drawn.low, exact.low, value)), float(max(drawn.high, exact.high, value)))


class Between(NamedTuple):
    """The accuracy at which two curves were compared, and the difference there."""

    accuracy: float
    difference: Reading


def difference_of(first: Replicated, second: Replicated, confidence: float) -> Between | None:
    """Leakage of `first` less that of `second`, in the middle of the accuracies that both reach; None without any.

    Both have the same draws; each replicate has a middle of its own. The interval is at least as wide as the exact
    intervals of two independent rates make it (Zou and Donner 2008, equation 5).
    """
    low = np.maximum(first.accuracy.min(axis=1), second.accuracy.min(axis=1))
    high = np.minimum(first.accuracy.max(axis=1), second.accuracy.max(axis=1))
    if low[0] > high[0]:
        return None
    middle = (low + high) / 2
    above, below = first.held(middle), second.held(middle)
    value = float(above[0] - below[0])
    drawn = _drawn(above - below, confidence)
    a, b = _exact(first, above[0], confidence), _exact(second, below[0], confidence)
    least = np.hypot(above[0] - a.low, b.high - below[0]), np.hypot(a.high - above[0], below[0] - b.low)
    ends = float(min(drawn.low, value - least[0])), float(max(drawn.high, value + least[1]))
    return Between(float(middle[0]), Reading(value, max(-1.0, ends[0]), min(1.0, ends[1])))


def corners_at(points: Sequence[StrengthPoint], name: str, at: float | None, accuracy: float) -> Reading | None:
    """As `reading_at` from the points' own intervals, for where there are no scores: wide, and not joint.

    Args:
        points: by rising accuracy, each with a value of the leakage and of the accuracy.
        name: of the leakage.
        at: its false positive rate.
        accuracy: where it is read.
    """
    rates = [_known(point.measured(name, at)) for point in points]
    places = [_known(point.accuracy) for point in points]
    value = leakage_at(line_of(np.array([p.value for p in places]), np.array([r.value for r in rates])), accuracy)
    if np.isnan(value):
        return None
    left = max((p.low for p in places if p.high < accuracy), default=-np.inf)
    right = min((p.high for p in places if p.low > accuracy), default=np.inf)
    near = [r for p, r in zip(places, rates, strict=True) if p.high >= left and p.low <= right]
    return Reading(value, min([value, *(r.low for r in near)]), max([value, *(r.high for r in near)]))


def difference_of_readings(first: Reading, second: Reading) -> Reading:
    """The difference of two readings whose errors are not known to be joint: end against end."""
    return Reading(first.value - second.value, first.low - second.high, first.high - second.low)


def _known(finding: Finding | None) -> Reading:
    assert finding is not None  # the caller left out what was not measured
    assert finding.value is not None
    low = finding.value if finding.low is None else finding.low
    return Reading(finding.value, low, finding.value if finding.high is None else finding.high)


def _drawn(values: Floats, confidence: float) -> Interval:
    return percentile_interval(float(values[0]), np.asarray(values[1:], np.float64), confidence)


def _exact(curve: Replicated, value: float, confidence: float) -> Interval:
    if not curve.rate:
        return Interval(np.asarray(value), np.asarray(value))
    return clopper_pearson(round(value * curve.members), curve.members, confidence)
