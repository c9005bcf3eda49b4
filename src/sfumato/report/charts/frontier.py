"""Accuracy against leakage over the strengths of every method: one line each, named at its end.

More methods than there are colours cannot be told apart in one plot; they get a panel each (`charts.panels`).
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sfumato.audit.curves import StrengthCurve
from sfumato.report.charts.panels import panels_chart, panels_height
from sfumato.report.charts.placed import Line, chance, lines_of, scales, short, told, whiskers
from sfumato.report.charts.scale import Scale
from sfumato.report.charts.style import COLOURS, colour, dash, marker
from sfumato.report.charts.svg import Frame, picture, tag
from sfumato.report.wording import rate_label

WIDTH = 760
_LEFT, _RIGHT, _TOP = 84.0, 560.0, 14.0
_GUTTER = 590.0  # where the names stand
_LINE = 18.0
_UNDER = 60.0  # for ticks and the title of the axis


def frontier_chart(key: str, curves: Sequence[StrengthCurve], fpr: float, lowest: float) -> Markup | None:
    """The picture for one false positive rate; None where no point has a TPR there.

    Args:
        key: unique on the page.
        curves: of one group; their places name their colours.
        fpr: false positive rate.
        lowest: rates below are drawn at the lower edge, which stands for 0 as well.
    """
    bottom = chart_height(curves) - _UNDER
    fitted = scales(curves, fpr, lowest)
    if fitted is None:
        return None
    title = f"TPR at FPR {rate_label(fpr)} by accuracy, for each method over its strengths"
    axes = "Accuracy", f"TPR at FPR {rate_label(fpr)} (log scale)"
    if len(curves) > COLOURS:
        text = told(lines_of(curves, fpr, *fitted))
        return picture(key, title, text, WIDTH, chart_height(curves), panels_chart(curves, fitted, fpr, axes))
    x, y = fitted.x.moved(_LEFT, _RIGHT), fitted.y.moved(bottom, _TOP)
    drawn = lines_of(curves, fpr, x, y)
    heights = _apart([line.points[-1].y for line in drawn], bottom)
    parts = [Frame(WIDTH, bottom + _UNDER, x, y, *axes).axes(), *chance(fpr, x, y, "chance")]
    parts += [_drawn(line, height, x, y) for line, height in zip(drawn, heights, strict=True)]
    return picture(key, title, told(drawn), WIDTH, bottom + _UNDER, parts)


def chart_height(curves: Sequence[StrengthCurve]) -> float:
    """Of the picture: every name needs a line, or every method a panel."""
    return panels_height(len(curves)) if len(curves) > COLOURS else _TOP + 360.0 + _UNDER


def _drawn(one: Line, height: float, x: Scale, y: Scale) -> Markup:
    path = [tag("path", d=one.path, class_="line", stroke_dasharray=dash(one.place))] if len(one.points) > 1 else []
    marks = [marker(one.place, point.x, point.y) for point in one.points]
    end = one.points[-1]
    leader = tag("path", d=f"M{end.x + 7:g} {end.y:g}L{_GUTTER - 6:g} {height:g}", class_="leader")
    text = tag("text", short(one.name), x=_GUTTER, y=height + 5, text_anchor="start", class_="name")
    return tag("g", leader, *path, *whiskers(one.points, x, y), *marks, text, class_=colour(one.place))


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
