"""Accuracy against leakage for many methods: a panel for each, with all the others in grey behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from sfumato.audit.curves import StrengthCurve
from sfumato.report.charts.placed import Line, Scales, chance, lines_of, whiskers
from sfumato.report.charts.scale import Scale
from sfumato.report.charts.style import colour, marker
from sfumato.report.charts.svg import Frame, label, tag, upright

_COLUMNS = 3
_LEFT, _RIGHT, _TOP, _UNDER = 84.0, 756.0, 8.0, 60.0
_GAP = 16.0  # between panels
_NAME = 24.0  # above each
_PANEL = 130.0  # height of a plot
_TICKS = 4  # most that fit under a panel


def panels_chart(curves: Sequence[StrengthCurve], scales: Scales, fpr: float, titles: tuple[str, str]) -> list[Markup]:
    """The parts of the picture, all panels on the same scales.

    Args:
        curves: of one group.
        scales: that hold all settings.
        fpr: false positive rate.
        titles: of the axes.
    """
    height = panels_height(len(curves))
    ticks = scales.x.ticks()
    x = replace(scales.x, marks=tuple(ticks[:: -(-len(ticks) // _TICKS)]))
    across = label(titles[0], (_LEFT + _RIGHT) / 2, height - 8, "middle", "title")
    up = upright(titles[1], (height - _UNDER) / 2)
    return [across, up, *(_panel(i, curves, scales._replace(x=x), fpr) for i in range(len(curves)))]


def panels_height(panels: int) -> float:
    """Of the whole picture."""
    return _TOP + -(-panels // _COLUMNS) * (_NAME + _PANEL + _GAP) + _UNDER


def _panel(index: int, curves: Sequence[StrengthCurve], scales: Scales, fpr: float) -> Markup:
    row, column = divmod(index, _COLUMNS)
    wide = (_RIGHT - _LEFT - (_COLUMNS - 1) * _GAP) / _COLUMNS
    left = _LEFT + column * (wide + _GAP)
    top = _TOP + row * (_NAME + _PANEL + _GAP) + _NAME
    x, y = scales.x.moved(left, left + wide), scales.y.moved(top + _PANEL, top)
    named_x = x if index + _COLUMNS >= len(curves) else replace(x, name=_nothing)
    frame = Frame(0, 0, named_x, y if column == 0 else replace(y, name=_nothing), "", "")
    lines = lines_of(curves, fpr, x, y)
    behind = [tag("path", d=one.path, class_="behind") for one in lines if one.place != index]
    own = [_own(one, x, y) for one in lines if one.place == index]
    name = label(curves[index].method, left, top - 7, kind="name")
    return tag("g", frame.axes(), *chance(fpr, x, y), *behind, *own, name)


def _own(one: Line, x: Scale, y: Scale) -> Markup:
    path = [tag("path", d=one.path, class_="line")] if len(one.points) > 1 else []
    marks = [marker(0, point.x, point.y) for point in one.points]
    return tag("g", *path, *whiskers(one.points, x, y), *marks, class_=colour(0))


def _nothing(_: float) -> str:
    return ""
