"""Accuracy against leakage over the strengths of every method: one line each, named at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from sfumato.audit.curves import StrengthCurve, StrengthPoint
from sfumato.audit.measured import Finding
from sfumato.report.charts.scale import Scale, around
from sfumato.report.charts.style import colour, dash, marker
from sfumato.report.charts.svg import Frame, label, picture, tag
from sfumato.report.wording import rate_label, shown

WIDTH = 760
_LEFT, _RIGHT, _TOP = 84.0, 560.0, 14.0
_GUTTER = 590.0  # where the names stand
_LINE = 18.0
_UNDER = 60.0  # for ticks and the title of the axis
_LONGEST = 20
_FACTORS = (1.0, 2.0, 5.0)


class _Placed(NamedTuple):
    """One setting with its place."""

    point: StrengthPoint
    rate: Finding
    x: float
    y: float


def frontier_chart(key: str, curves: Sequence[StrengthCurve], fpr: float, lowest: float) -> Markup | None:
    """The picture for one false positive rate; None where no point has a TPR there.

    Args:
        key: unique on the page.
        curves: of one group; their places name their colours.
        fpr: false positive rate.
        lowest: rates below are drawn at the lower edge, which stands for 0 as well.
    """
    every = [point for curve in curves for point in curve.points if point.accuracy.value is not None]
    found = [point for point in every if point.measured("tpr_at_fpr", fpr)]
    if not found:
        return None
    bottom = chart_height(curves) - _UNDER
    x = around(_extent([point.accuracy for point in found]), _LEFT, _RIGHT, rate_label)
    y = _rates([point.measured("tpr_at_fpr", fpr) for point in found], lowest, bottom)
    lines = [(i, curve, _placed(curve, fpr, x.at, y.at)) for i, curve in enumerate(curves)]
    drawn = [(i, curve.method, line) for i, curve, line in lines if line]
    heights = _apart([line[-1].y for _, _, line in drawn], bottom)
    frame = Frame(WIDTH, bottom + _UNDER, x, y, "Accuracy", f"TPR at FPR {rate_label(fpr)} (log scale)")
    parts = [frame.axes(), *_chance(fpr, y)]
    parts += [_drawn(i, name, line, h, x, y) for (i, name, line), h in zip(drawn, heights, strict=True)]
    title = f"TPR at FPR {rate_label(fpr)} by accuracy, for each method over its strengths"
    return picture(key, title, _told(drawn), WIDTH, bottom + _UNDER, parts)


def chart_height(curves: Sequence[StrengthCurve]) -> float:
    """Of the picture: every name needs a line."""
    return _TOP + max(360.0, _LINE * (len(curves) + 1)) + _UNDER


def _rates(findings: Sequence[Finding | None], lowest: float, bottom: float) -> Scale:
    values = [v for f in findings if f is not None for v in (f.value, f.high) if v]
    high = min(1.0, 1.3 * max([*values, 2 * lowest]))
    low = max(lowest, min([v for v in (f.value for f in findings if f is not None) if v] or [lowest]) / 2)
    low = min(low, high / 4)
    powers = range(math.floor(math.log10(low)), 1)
    marks = tuple(f * 10.0**p for p in powers for f in _FACTORS if low <= f * 10.0**p <= high)
    return Scale(low, high, bottom, _TOP, log=True, name=rate_label, marks=marks)


def _placed(
    curve: StrengthCurve, fpr: float, x: Callable[[float], float], y: Callable[[float], float]
) -> list[_Placed]:
    return [
        _Placed(point, rate, x(point.accuracy.value), y(rate.value))
        for point in curve.points
        if (rate := point.measured("tpr_at_fpr", fpr)) is not None
        and rate.value is not None
        and point.accuracy.value is not None
    ]


def _chance(fpr: float, y: Scale) -> list[Markup]:
    if not y.low <= fpr <= y.high:
        return []
    place = y.at(fpr)
    return [
        tag("path", d=f"M{_LEFT:g} {place:g}H{_RIGHT:g}", class_="chance"),
        label("chance", _LEFT + 6, place - 6, "start"),
    ]


def _drawn(index: int, name: str, line: list[_Placed], height: float, x: Scale, y: Scale) -> Markup:
    corners = "L".join(f"{one.x:g} {one.y:g}" for one in line)
    path = [tag("path", d=f"M{corners}", class_="line", stroke_dasharray=dash(index))] if len(line) > 1 else []
    whiskers = [whisker for one in line for whisker in _whiskers(one, x, y)]
    marks = [marker(index, one.x, one.y) for one in line]
    end = line[-1]
    leader = tag("path", d=f"M{end.x + 7:g} {end.y:g}L{_GUTTER - 6:g} {height:g}", class_="leader")
    short = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\u2026"
    text = tag("text", short, x=_GUTTER, y=height + 5, text_anchor="start", class_="name")
    return tag("g", leader, *path, *whiskers, *marks, text, class_=colour(index))


def _whiskers(one: _Placed, x: Scale, y: Scale) -> list[Markup]:
    accuracy, rate = one.point.accuracy, one.rate
    found = []
    if accuracy.low is not None and accuracy.high is not None:
        found.append(tag("path", d=f"M{x.at(accuracy.low):g} {one.y:g}H{x.at(accuracy.high):g}", class_="whisker"))
    if rate.low is not None and rate.high is not None:
        found.append(tag("path", d=f"M{one.x:g} {y.at(rate.low):g}V{y.at(rate.high):g}", class_="whisker"))
    return found


def _apart(wanted: list[float], bottom: float) -> list[float]:
    """Heights of the names: near their ends, none over another, none below the plot."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    taken: dict[int, float] = {}
    free = _TOP
    for index in order:
        taken[index] = max(wanted[index], free)
        free = taken[index] + _LINE
    limit = bottom
    for index in reversed(order):
        taken[index] = min(taken[index], limit)
        limit = taken[index] - _LINE
    return [taken[index] for index in range(len(wanted))]


def _extent(findings: Sequence[Finding]) -> list[float]:
    return [value for f in findings for value in (f.value, f.low, f.high) if value is not None]


def _told(drawn: Sequence[tuple[int, str, list[_Placed]]]) -> str:
    lines = [
        f"{name}: " + ", ".join(f"{shown(one.point.accuracy).text} with {shown(one.rate).text}" for one in line)
        for _, name, line in drawn
    ]
    return "Accuracy with TPR. " + "; ".join(lines) + "."
