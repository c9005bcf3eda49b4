"""Settings of methods with their places in a picture of accuracy against leakage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from sfumato.audit.curves import StrengthCurve, StrengthPoint
from sfumato.audit.measured import Finding
from sfumato.report.charts.scale import Scale, around
from sfumato.report.charts.svg import label, tag
from sfumato.report.wording import rate_label, shown

_FACTORS = (1.0, 2.0, 5.0)
_LONGEST = 20


class Placed(NamedTuple):
    """One setting with its place."""

    point: StrengthPoint
    rate: Finding
    x: float
    y: float


class Line(NamedTuple):
    """One method: its place among all, and its settings that have both an accuracy and a rate, at least one."""

    place: int
    name: str
    points: list[Placed]

    @property
    def path(self) -> str:
        """Through all settings."""
        return "M" + "L".join(f"{one.x:g} {one.y:g}" for one in self.points)


class Scales(NamedTuple):
    """Accuracy to the right, rates upwards; both from 0 to 1 until they are `moved` to where they are drawn."""

    x: Scale
    y: Scale


def scales(curves: Sequence[StrengthCurve], fpr: float, lowest: float) -> Scales | None:
    """Scales that hold all settings with a TPR at `fpr`; None where there is none. `lowest` is the lower end."""
    every = [point for curve in curves for point in curve.points if point.accuracy.value is not None]
    found = [(point.accuracy, rate) for point in every if (rate := point.measured("tpr_at_fpr", fpr))]
    if not found:
        return None
    ends = [value for one, _ in found for value in (one.value, one.low, one.high) if value is not None]
    return Scales(around(ends, 0.0, 1.0, rate_label), _rates([rate for _, rate in found], lowest))


def _rates(findings: Sequence[Finding], lowest: float) -> Scale:
    values = [v for f in findings for v in (f.value, f.high) if v]
    high = min(1.0, 1.3 * max([*values, 2 * lowest]))
    low = max(lowest, min([v for v in (f.value for f in findings) if v] or [lowest]) / 2)
    low = min(low, high / 4)
    powers = range(math.floor(math.log10(low)), 1)
    marks = tuple(f * 10.0**p for p in powers for f in _FACTORS if low <= f * 10.0**p <= high)
    return Scale(low, high, 0.0, 1.0, log=True, name=rate_label, marks=marks)


def lines_of(curves: Sequence[StrengthCurve], fpr: float, x: Scale, y: Scale) -> list[Line]:
    """The methods that can be drawn."""
    lines = [Line(index, curve.method, _placed(curve, fpr, x, y)) for index, curve in enumerate(curves)]
    return [line for line in lines if line.points]


def _placed(curve: StrengthCurve, fpr: float, x: Scale, y: Scale) -> list[Placed]:
    return [
        Placed(point, rate, x.at(point.accuracy.value), y.at(rate.value))
        for point in curve.points
        if (rate := point.measured("tpr_at_fpr", fpr)) is not None
        and rate.value is not None
        and point.accuracy.value is not None
    ]


def whiskers(points: Sequence[Placed], x: Scale, y: Scale) -> list[Markup]:
    """Intervals of accuracy and rate."""
    return [whisker for one in points for whisker in _whiskers(one, x, y)]


def _whiskers(one: Placed, x: Scale, y: Scale) -> list[Markup]:
    accuracy, rate = one.point.accuracy, one.rate
    found = []
    if accuracy.low is not None and accuracy.high is not None:
        found.append(tag("path", d=f"M{x.at(accuracy.low):g} {one.y:g}H{x.at(accuracy.high):g}", class_="whisker"))
    if rate.low is not None and rate.high is not None:
        found.append(tag("path", d=f"M{one.x:g} {y.at(rate.low):g}V{y.at(rate.high):g}", class_="whisker"))
    return found


def chance(fpr: float, x: Scale, y: Scale, text: str = "") -> list[Markup]:
    """The rate of an attack that knows nothing, with a word where one is given."""
    if not y.low <= fpr <= y.high:
        return []
    place = y.at(fpr)
    line = tag("path", d=f"M{x.start:g} {place:g}H{x.end:g}", class_="chance")
    return [line, label(text, x.start + 6, place - 6)] if text else [line]


def short(name: str) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\u2026"


def told(lines: Sequence[Line]) -> str:
    """All settings in words, for those who do not see the picture."""
    told = [
        f"{line.name}: " + ", ".join(f"{shown(p.point.accuracy).text} with {shown(p.rate).text}" for p in line.points)
        for line in lines
    ]
    return "Accuracy with TPR. " + "; ".join(told) + "."
