"""Inversion against epsilon, and what a guarantee permits beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from markupsafe import Markup

from sfumato.audit.measured import Finding
from sfumato.report.charts.scale import Scale, around
from sfumato.report.charts.style import colour, marker
from sfumato.report.charts.svg import Frame, label, picture, tag
from sfumato.report.wording import is_rate, number, percent, rate_label, shown

_WIDTH, _HEIGHT = 460, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 330.0, 14.0, 272.0
_NONE = 395.0  # where stand the subjects without a guarantee
_ROOM = 90.0  # for them, side by side
_APART = 9.0
_BAND = 10.0
_FACTORS = (1.0, 2.0, 5.0)
_WIDE, _GUTTER, _LINE, _UNDER = 760, 290.0, 34.0, 52.0
_LONGEST = 36


class Placed(NamedTuple):
    """The subject at `position` of the record; `epsilon` is None where it has no guarantee."""

    position: int
    name: str
    epsilon: float | None
    attacked: Finding
    control: Finding | None


class Bounded(NamedTuple):
    """One measured success with what the guarantee permits; all are rates."""

    position: int
    name: str
    prior: float
    permitted: float
    measured: Finding


def has_value(finding: Finding | None) -> bool:
    """Whether there is a number to draw."""
    return finding is not None and finding.resolvable and finding.value is not None


def inversion_chart(key: str, title: str, measure: str, placed: Sequence[Placed]) -> Markup | None:
    """One measure of one attack by epsilon; each control stands as a band behind its point.

    Args:
        key: unique on the page.
        title: what is drawn, for those who do not see it.
        measure: its name, which decides how the axis is written.
        placed: subjects; those without a value are left out. None is drawn where no subject has one.
    """
    drawn = [one for one in placed if has_value(one.attacked)]
    if not drawn:
        return None
    x, y = _epsilons(drawn), _heights(measure, drawn)
    name = shown(drawn[0].attacked.model_copy(update={"name": measure})).label
    frame = Frame(_WIDTH, _HEIGHT, x, y, "Epsilon (log scale)", name)
    parts = [
        frame.axes(),
        tag("path", d=f"M{(_RIGHT + _NONE - _ROOM / 2) / 2:g} {_TOP:g}V{_BOTTOM:g}", class_="reference"),
        label("no guarantee", _NONE, _BOTTOM + 24, "middle", "tick"),
        *(_mark(one, across, y) for one, across in zip(drawn, _across(drawn, x), strict=True)),
    ]
    return picture(key, title, _told(drawn, measure), _WIDTH, _HEIGHT, parts)


def bounds_chart(key: str, rows: Sequence[Bounded]) -> Markup | None:
    """A line for each success that a guarantee bounds: prior, permitted and measured on one axis; None for no line."""
    drawn = [row for row in rows if has_value(row.measured)]
    if not drawn:
        return None
    bottom = _LINE * len(drawn) + 12
    x = _successes(drawn)
    parts: list[Markup] = []
    for value in x.ticks():
        place = x.at(value)
        parts += [
            tag("path", d=f"M{place:g} 6V{bottom:g}", class_="grid"),
            label(rate_label(value), place, bottom + 20, "middle", "tick"),
        ]
    parts += [tag("path", d=f"M{x.start:g} {bottom:g}H{x.end:g}", class_="axis")]
    parts += [_bound(i, row, x) for i, row in enumerate(drawn)]
    scale = " (log scale)" if x.log else ""
    parts += [label(f"Success{scale}", (x.start + x.end) / 2, bottom + 42, "middle", "title")]
    told = "; ".join(
        f"{row.name}: measured {shown(_rate(row.measured)).text}, permitted {percent(row.permitted)}, "
        f"without the model {percent(row.prior)}"
        for row in drawn
    )
    return picture(key, "Permitted and measured success of reconstruction", told, _WIDE, bottom + _UNDER, parts)


def _epsilons(drawn: Sequence[Placed]) -> Scale:
    """Over the epsilons that are there; one alone stands in the middle."""
    known = [one.epsilon for one in drawn if one.epsilon is not None and one.epsilon > 0] or [1.0]
    low, high = min(known) / 1.6, max(known) * 1.6
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    round_values = [f * 10.0**p for p in powers for f in _FACTORS if low <= f * 10.0**p <= high]
    own = tuple(dict.fromkeys(known)) if len(round_values) < 2 else ()
    return Scale(
        low, high, _LEFT + 14, _RIGHT, log=True, name=_short, marks=own or tuple(round_values[:: _every(round_values)])
    )


def _every(values: Sequence[float]) -> int:
    return max(1, math.ceil(len(values) / 7))


def _heights(measure: str, drawn: Sequence[Placed]) -> Scale:
    findings = [f for one in drawn for f in (one.attacked, one.control) if f is not None and has_value(f)]
    values = [value for f in findings for value in (f.value, f.low, f.high) if value is not None]
    rate = is_rate(measure)
    wide = around(values, _BOTTOM, _TOP, rate_label if rate else number)
    within = rate and min(values) >= 0 and max(values) <= 1  # a difference of rates may be below 0
    return replace(wide, low=max(0.0, wide.low), high=min(1.0, wide.high)) if within else wide


def _across(drawn: Sequence[Placed], x: Scale) -> list[float]:
    """Places from left to right: by epsilon, equal ones side by side; those without one in a column of their own."""
    free = [i for i, one in enumerate(drawn) if one.epsilon is None]
    step = min(3 * _APART, _ROOM / max(1, len(free)))
    placed = {i: _NONE + (rank - (len(free) - 1) / 2) * step for rank, i in enumerate(free)}
    taken: dict[float, int] = {}
    for i, one in enumerate(drawn):
        if one.epsilon is not None:
            place = x.at(max(one.epsilon, x.low))
            placed[i] = place + _APART * taken.get(place, 0)
            taken[place] = taken.get(place, 0) + 1
    return [placed[i] for i in range(len(drawn))]


def _mark(one: Placed, across: float, y: Scale) -> Markup:
    place = y.at(one.attacked.value or 0.0)
    parts = [*_band(one.control, across, y), *_whisker(one.attacked, across, y), marker(one.position, across, place)]
    return tag("g", *parts, class_=colour(one.position))


def _band(control: Finding | None, across: float, y: Scale) -> list[Markup]:
    """The control's interval as a band, its value as a dashed line in it."""
    if control is None or not has_value(control):
        return []
    middle = y.at(control.value or 0.0)
    left, right = across - _BAND, across + _BAND
    parts = [tag("path", d=f"M{left:g} {middle:g}H{right:g}", class_="chance")]
    if control.low is not None and control.high is not None:
        top, bottom = y.at(control.high), y.at(control.low)
        parts.insert(0, tag("rect", x=left, y=top, width=2 * _BAND, height=max(0.0, bottom - top), class_="band"))
    return parts


def _whisker(found: Finding, across: float, y: Scale) -> list[Markup]:
    if found.low is None or found.high is None:
        return []
    return [tag("path", d=f"M{across:g} {y.at(found.low):g}V{y.at(found.high):g}", class_="whisker")]


def _told(drawn: Sequence[Placed], measure: str) -> str:
    lines = []
    for one in drawn:
        control = _named(one.control, measure) if one.control is not None and has_value(one.control) else None
        beside = f", control {shown(control).text}" if control else ""
        where = "no guarantee" if one.epsilon is None else f"epsilon {_short(one.epsilon)}"
        lines.append(f"{one.name} ({where}): {shown(_named(one.attacked, measure)).text}{beside}")
    return "; ".join(lines) + "."


def _named(found: Finding, name: str) -> Finding:
    """Findings are written by their name, whatever a record calls the one inside a measure."""
    return found.model_copy(update={"name": name})


def _rate(found: Finding) -> Finding:
    return _named(found, "success_rate")


def _short(value: float) -> str:
    return f"{value:.3g}"


def _successes(rows: Sequence[Bounded]) -> Scale:
    """From 0 to 1, or in powers of ten where something is below a hundredth."""
    values = [v for row in rows for v in (row.prior, row.permitted, row.measured.value or 0.0) if v > 0]
    least = min(values, default=1.0)
    if least >= 0.01:
        return Scale(0.0, 1.0, _GUTTER, _WIDE - 40.0)
    return Scale(10.0 ** math.floor(math.log10(max(least, 1e-12))), 1.0, _GUTTER, _WIDE - 40.0, log=True)


def _bound(index: int, row: Bounded, x: Scale) -> Markup:
    middle = _LINE * index + 24
    name = row.name if len(row.name) <= _LONGEST else row.name[: _LONGEST - 1] + "\u2026"
    place, prior = x.at(row.measured.value or 0.0), x.at(row.prior)
    parts = [
        label(name, _GUTTER - 12, middle + 5, "end", "name"),
        tag("rect", x=x.start, y=middle - 8, width=x.at(row.permitted) - x.start, height=16, class_="ceiling"),
        tag("path", d=f"M{prior:g} {middle - 11:g}v22", class_="chance"),
    ]
    if row.measured.low is not None and row.measured.high is not None:
        ends = x.at(row.measured.low), x.at(row.measured.high)
        parts.append(tag("path", d=f"M{ends[0]:g} {middle:g}H{ends[1]:g}", class_="whisker"))
    return tag("g", *parts, marker(row.position, place, middle), class_=colour(row.position))
