"""Leakage at equal accuracy: every method as a curve over its strengths."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.audit.curves import AtAccuracy, EqualAccuracy, GroupFrontier, StrengthPoint
from sfumato.audit.measured import Finding
from sfumato.audit.record import AuditRecord
from sfumato.audit.tuned import TuningSummary
from sfumato.report.charts.frontier import frontier_chart
from sfumato.report.charts.style import swatch
from sfumato.report.frontier_picture import lowest_rate
from sfumato.report.section import Section
from sfumato.report.wording import Shown, amount, count, label, rate_label, shown

_COLUMNS: tuple[tuple[str, float | None], ...] = (("tpr_at_fpr", 0.001), ("tpr_at_fpr", 0.01), ("auc", None))
_FPRS = (0.01, 0.001)
_CHOSEN = (
    "The kind was chosen on the same scores: the interval of a setting is that of its kind by itself, and is corrected "
    "neither for that choice nor for the choice among the attacks."
)
_MOST = 60  # differences on the page; the others are in the record
_TITLES = {
    "all": "All units in the game",
    "worst": "The kind of canaries that leaks most",
}


class PointRow(NamedTuple):
    """One setting of one method."""

    method: str
    swatch: Markup
    strength: str
    accuracy: Shown
    cells: list[Shown | None]
    attack: str
    kind: str
    time: str


class LevelRow(NamedTuple):
    """One method at each accuracy."""

    method: str
    swatch: Markup
    cells: list[Shown | None]


class DifferenceRow(NamedTuple):
    """Two methods at equal accuracy; `cells` are empty where they are never equally accurate."""

    subject: str
    baseline: str
    accuracy: str
    cells: list[Shown | None]
    note: str


class TuningRow(NamedTuple):
    """How the numbers of one subject were chosen."""

    subject: str
    method: str
    chosen: str
    tried: str
    units: str
    note: str


class GroupPart(NamedTuple):
    """All that is shown of one group."""

    title: str
    charts: list[Markup]
    points: list[PointRow]
    levels: list[str]
    rows: list[LevelRow]
    differences: list[DifferenceRow]
    left_out: int
    kinds: bool
    chosen: str


class FrontierSection(Section):
    """Section 9."""

    name: ClassVar[str] = "frontier"
    order: ClassVar[int] = 75
    title: ClassVar[str] = "Leakage at equal accuracy"

    def context(self, record: AuditRecord) -> dict[str, Any]:
        found = record.frontier
        return {
            "frontier": found,
            "groups": [] if found is None else [_part(i, group, record) for i, group in enumerate(found.groups)],
            "columns": [label(*column) for column in _COLUMNS],
            "tunings": [_tuning(one) for one in record.tuning],
            "confidence": "" if found is None else rate_label(found.confidence),
        }


def _tuning(one: TuningSummary) -> TuningRow:
    chosen = ", ".join(f"{name}={value}" for name, value in one.chosen.items())
    tried = f"{amount(len(one.trials), 'setting')} of a grid of {count(one.grid_size)}"
    if one.unsuited:
        tried += f", {count(one.unsuited)} passed over as of no use"
    units = f"fitted on {amount(one.fitted_units, 'unit')}, judged on {count(one.validation_units)}, none attacked"
    told = [f"Criterion: {one.criterion} ({100 * one.tolerance:g} points).", one.note]
    held = f"Left alone, as they tell the contenders apart: {', '.join(one.held)}." if one.held else ""
    return TuningRow(one.subject, one.method, chosen, tried, units, " ".join(filter(None, [*told, held])))


def _part(position: int, group: GroupFrontier, record: AuditRecord) -> GroupPart:
    lowest = lowest_rate(record)
    charts = [frontier_chart(f"frontier-{position}-{i}", group.curves, fpr, lowest) for i, fpr in enumerate(_FPRS)]
    methods = [curve.method for curve in group.curves]
    rows = [_difference(one) for one in group.differences]
    kinds = any(point.kind for curve in group.curves for point in curve.points)
    return GroupPart(
        title=_TITLES.get(group.group, group.group),
        charts=[chart for chart in charts if chart is not None],
        points=[_point(i, c.method, point) for i, c in enumerate(group.curves) for point in c.points],
        levels=_levels(group.at_accuracies),
        rows=[_level(i, method, group.at_accuracies) for i, method in enumerate(methods)],
        differences=rows[:_MOST],
        left_out=max(0, len(rows) - _MOST),
        kinds=kinds,
        chosen=_CHOSEN if kinds else "",
    )


def _point(index: int, method: str, point: StrengthPoint) -> PointRow:
    found = {(f.name, f.at): shown(f) for f in point.leakage}
    time = "not known" if point.relative_time is None else f"{point.relative_time:.2f}\u00d7"
    cells = [found.get(column) for column in _COLUMNS]
    return PointRow(method, swatch(index), point.strength, shown(point.accuracy), cells, point.attack, point.kind, time)


def _levels(rows: list[AtAccuracy]) -> list[str]:
    levels = dict.fromkeys((row.below, row.accuracy) for row in rows)
    return [
        f"{rate_label(round(at, 4))} ({100 * below:g} {'point' if below == 0.01 else 'points'} below)"
        for below, at in levels
    ]


def _level(index: int, method: str, rows: list[AtAccuracy]) -> LevelRow:
    return LevelRow(method, swatch(index), [_headline(row.leakage) for row in rows if row.method == method])


def _headline(findings: list[Finding]) -> Shown | None:
    """TPR at an FPR of 1% where it could be measured, else the AUC; a curve that does not get there says why."""
    order = [f for column in _COLUMNS[1:] for f in findings if (f.name, f.at) == column]
    best = next((f for f in order if f.value is not None), None)
    if best is not None or not order:
        return None if best is None else shown(best)
    return shown(order[-1])._replace(value=order[-1].note)


def _difference(one: EqualAccuracy) -> DifferenceRow:
    accuracy = "" if one.accuracy is None else rate_label(round(one.accuracy, 4))
    found = {(f.name, f.at): shown(f, f.name) for f in one.differences}
    cells = [found.get(column) for column in _COLUMNS]
    return DifferenceRow(one.subject, one.baseline, accuracy, cells, one.note)
