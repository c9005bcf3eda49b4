"""Small pictures inside table rows: an interval, a row of needles, a bar in its ceiling. Numbers stand beside."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sfumato.report.charts.scale import Scale
from sfumato.report.charts.svg import tag

_WIDTH, _HEIGHT, _MIDDLE = 140, 18, 9


def interval_strip(value: float, low: float, high: float, ends: tuple[float, float], reference: float) -> Markup:
    """An interval with its value between `ends`, and a line at `reference` (chance, or no difference)."""
    x = Scale(ends[0], ends[1], 5, _WIDTH - 5)
    return _strip(
        tag("path", d=f"M{x.at(reference):g} 1V17", class_="reference"),
        tag("path", d=f"M{x.at(low):g} {_MIDDLE}H{x.at(high):g}", class_="whisker"),
        tag("circle", cx=x.at(value), cy=_MIDDLE, r=4, class_="mark"),
    )


def needles_strip(values: Sequence[float], ends: tuple[float, float], reference: float) -> Markup:
    """One needle per value between `ends`."""
    x = Scale(ends[0], ends[1], 5, _WIDTH - 5)
    needles = "".join(f"M{at} 4v10" for at in sorted({round(x.at(value)) for value in values}))
    return _strip(
        tag("path", d=f"M{x.at(reference):g} 1V17", class_="reference"), tag("path", d=needles, class_="needles")
    )


def bar_strip(value: float, ceiling: float, top: float) -> Markup:
    """A bar up to `value` inside the outline of `ceiling`, both on a scale from 0 to `top` (above 0)."""
    x = Scale(0, top, 2, _WIDTH - 2)
    return _strip(
        tag("rect", x=2, y=4, width=x.at(ceiling) - 2, height=10, class_="ceiling"),
        tag("rect", x=2, y=4, width=x.at(value) - 2, height=10, class_="bar"),
    )


def _strip(*parts: str) -> Markup:
    return tag("svg", *parts, class_="strip", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", aria_hidden="true")
