"""Utility against leakage: one mark per subject, with its interval in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from sfumato.audit.record import Finding
from sfumato.report.charts.scale import around
from sfumato.report.charts.style import colour, marker
from sfumato.report.charts.svg import Frame, label, picture, tag
from sfumato.report.wording import is_rate, rate_label, shown

_WIDTH, _HEIGHT = 460, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 88.0, 440.0, 14.0, 312.0
_LINE = 17.0
_LONGEST = 24


class Placed(NamedTuple):
    """The subject at `position` of the record: `leakage` and `utility` both have values."""

    position: int
    name: str
    leakage: Finding
    utility: Finding


def plane_chart(key: str, placed: Sequence[Placed]) -> Markup:
    """The picture for the subjects in `placed` (at least one); all share one utility and one leakage measure."""
    across, up = shown(placed[0].leakage).label, shown(placed[0].utility).label
    x = around(_extent(item.leakage for item in placed), _LEFT, _RIGHT, _name(placed[0].leakage))
    y = around(_extent(item.utility for item in placed), _BOTTOM, _TOP, _name(placed[0].utility))
    frame = Frame(_WIDTH, _HEIGHT, x, y, f"Leakage: {across}", f"Utility: {up}")
    heights = _label_heights([y.at(_value(item.utility)) for item in placed])
    marks = [_mark(item, x.at, y.at, height) for item, height in zip(placed, heights, strict=True)]
    told = "; ".join(
        f"{item.name}: {across} {shown(item.leakage).text}, {up} {shown(item.utility).text}" for item in placed
    )
    return picture(key, f"{up} against {across}", told, _WIDTH, _HEIGHT, [frame.axes(), *marks])


def _mark(item: Placed, x: Callable[[float], float], y: Callable[[float], float], height: float) -> Markup:
    across, up = x(_value(item.leakage)), y(_value(item.utility))
    parts = [marker(item.position, across, up)]
    if item.leakage.low is not None and item.leakage.high is not None:
        parts.append(tag("path", d=f"M{x(item.leakage.low):g} {up:g}H{x(item.leakage.high):g}", class_="whisker"))
    if item.utility.low is not None and item.utility.high is not None:
        parts.append(tag("path", d=f"M{across:g} {y(item.utility.low):g}V{y(item.utility.high):g}", class_="whisker"))
    left = across > (_LEFT + _RIGHT) / 2
    name = item.name if len(item.name) <= _LONGEST else item.name[: _LONGEST - 1] + "\u2026"
    parts.append(label(name, across + (-10 if left else 10), height - 7, "end" if left else "start", "name"))
    return tag("g", *parts, class_=colour(item.position))


def _label_heights(wanted: list[float]) -> list[float]:
    """Heights of the names, moved down where two would overlap."""
    taken: dict[int, float] = {}
    free = -1e9
    for index in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        free = taken[index] = max(wanted[index], free + _LINE)
    return [taken[index] for index in range(len(wanted))]


def _extent(findings: Iterable[Finding]) -> list[float]:
    return [value for f in findings for value in (f.value, f.low, f.high) if value is not None]


def _name(finding: Finding) -> Callable[[float], str]:
    return rate_label if is_rate(finding.name) else (lambda value: f"{value:.4g}")


def _value(finding: Finding) -> float:
    return 0.0 if finding.value is None else finding.value
