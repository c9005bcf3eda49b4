"""What each region of a network carries: accuracy on the left, risk on the right, one row for each region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from sfumato.audit.probing.risk_map import RiskMap
from sfumato.audit.record import Finding
from sfumato.report.charts.scale import Scale, around
from sfumato.report.charts.style import colour, marker
from sfumato.report.charts.svg import Frame, picture, tag
from sfumato.report.wording import is_rate, number, percent_figures, shown

WIDTH, _TOP, _LINE, _FOOT = 820.0, 12.0, 20.0, 62.0
_PANELS = ((128.0, 450.0), (484.0, 806.0))  # from and to, left and right
_LONGEST = 16


class Point(NamedTuple):
    """One effect in one panel: positions of its region and of its operation, and what was found."""

    region: int
    operation: int
    found: Finding


def regions_chart(key: str, risk_map: RiskMap, measure: str, at: float | None = None) -> Markup:
    """The picture for one measure of risk; values that could not be resolved are left out of it.

    Args:
        key: unique on the page.
        risk_map: what is drawn.
        measure: name of a finding in `Effect.risk_carried`.
        at: the point that it belongs to.
    """
    names = [region.name for region in risk_map.regions]
    row, height = _row(risk_map), chart_height(risk_map)
    panels = [_points(risk_map, "accuracy", None), _points(risk_map, measure, at)]
    parts = [
        part
        for side, points in enumerate(panels)
        for part in _panel(points, side, names, row, height, "Accuracy" if side == 0 else _risk_label(measure, at))
    ]
    told = "; ".join(
        _told(risk_map, point, what) for what, points in zip(("accuracy", measure), panels) for point in points
    )
    title = f"Accuracy and {_risk_label(measure, at)} carried by each region"
    return picture(key, title, told or "Nothing could be resolved.", WIDTH, height, parts)


def chart_height(risk_map: RiskMap) -> float:
    """In picture units; the picture is `WIDTH` wide."""
    return _TOP + _row(risk_map) * len(risk_map.regions) + _FOOT


def _row(risk_map: RiskMap) -> float:
    return _LINE * max(1, len(risk_map.operations)) + 10


def drawn_measures(risk_map: RiskMap) -> list[tuple[str, float | None]]:
    """Measures of risk with a value for some effect: the AUC, and the TPR at the lowest FPR that was resolved."""
    known = [
        (found.name, found.at)
        for effect in risk_map.effects
        for found in effect.risk_carried
        if found.value is not None
    ]
    rates = sorted({at for name, at in known if name == "tpr_at_fpr" and at is not None})
    return [("auc", None), *([("tpr_at_fpr", rates[0])] if rates else [])]


def _points(risk_map: RiskMap, measure: str, at: float | None) -> list[Point]:
    names, found = [region.name for region in risk_map.regions], []
    for effect in risk_map.effects:
        one = effect.accuracy_carried if measure == "accuracy" else effect.carried(measure, at)
        if one is not None and one.value is not None:
            found.append(Point(names.index(effect.region), risk_map.operations.index(effect.operation), one))
    return found


def _panel(
    points: Sequence[Point], side: int, names: Sequence[str], row: float, height: float, title: str
) -> list[Markup]:
    start, end = _PANELS[side]
    extent = [0.0, *(v for p in points for v in (p.found.value, p.found.low, p.found.high) if v is not None)]
    rate = not points or is_rate(points[0].found.name)
    x = around(extent, start, end, _figures if rate else number)
    y = Scale(0, len(names), _TOP, height - _FOOT, name=_named(names if side == 0 else ()), marks=_middles(len(names)))
    unit = ", points" if rate else ""
    axes = _axes(Frame(WIDTH, height, x, y, f"{title} carried{unit}", ""))
    zero = tag("path", d=f"M{x.at(0):g} {_TOP:g}V{height - _FOOT:g}", class_="reference")
    return [
        axes,
        zero,
        *(_mark(point, x, _TOP + row * point.region + _LINE * (point.operation + 0.5) + 5) for point in points),
    ]


def _axes(frame: Frame) -> Markup:
    """Rows run downwards here, so the frame is closed at the lower end of the vertical scale."""
    turned = Scale(
        -frame.y.high, -frame.y.low, frame.y.end, frame.y.start,
        name=lambda value: frame.y.name(-value), marks=tuple(-mark for mark in frame.y.marks),
    )  # fmt: skip
    return Frame(frame.width, frame.height, frame.x, turned, frame.x_title, frame.y_title).axes()


def _mark(point: Point, x: Scale, y: float) -> Markup:
    found = point.found
    parts = [marker(point.operation, x.at(found.value or 0.0), y)]
    if found.low is not None and found.high is not None:
        parts.insert(0, tag("path", d=f"M{x.at(found.low):g} {y:g}H{x.at(found.high):g}", class_="whisker"))
    return tag("g", *parts, class_=colour(point.operation))


def _middles(count: int) -> tuple[float, ...]:
    return tuple(index + 0.5 for index in range(count))


def _named(names: Sequence[str]) -> Callable[[float], str]:
    def name(value: float) -> str:
        text = names[int(value)] if names else ""
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"

    return name


def _figures(value: float) -> str:
    return percent_figures(value, signed=True)


def _risk_label(measure: str, at: float | None) -> str:
    return shown(Finding(name=measure, value=0.0, low=None, high=None, at=at)).label


def _told(risk_map: RiskMap, point: Point, measure: str) -> str:
    where = f"{risk_map.regions[point.region].name}, {risk_map.operations[point.operation]}"
    return f"{where}: {measure} {shown(point.found, measure).text}"
