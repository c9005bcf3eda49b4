"""Whom the risk falls on: per-unit vulnerability, the worst-hit decile, and groups."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.audit.record import AuditRecord, Finding, GroupResult, Subject
from sfumato.data.canaries import GROUP
from sfumato.report.charts import histogram_chart, interval_strip, swatch
from sfumato.report.section import Section
from sfumato.report.wording import Shown, label, number, percent, rate_label, shown

_CHANCE = 0.5
_KINDS = (
    "Each kind of canary stands with the attack that finds it best, chosen on the same scores. Intervals hold for all "
    "kinds of one subject at once, not for that choice."
)


class Risk(NamedTuple):
    """Vulnerability of one subject; `chart` is None where no unit was counted."""

    subject: str
    swatch: Markup
    attack: str
    models: int
    chart: Markup | None
    quantiles: list[tuple[str, str]]
    worst: Shown
    note: str


class Found(NamedTuple):
    """How often one attack found single units of one subject; `chart` is None where no unit was counted."""

    subject: str
    swatch: Markup
    attack: str
    at: str
    chart: Markup | None
    quantiles: list[tuple[str, str]]
    worst: Shown
    note: str


class GroupRow(NamedTuple):
    """One group of one subject; `strip` is its AUC with interval, None where there is none."""

    subject: str
    swatch: Markup
    group: GroupResult
    cells: list[Shown | None]
    strip: Markup | None


class UnitsSection(Section):
    """Section 7."""

    name: ClassVar[str] = "units"
    order: ClassVar[int] = 60
    title: ClassVar[str] = "Who is hit hardest"

    def context(self, record: AuditRecord) -> dict[str, Any]:
        groups = [(i, s, g) for i, s in enumerate(record.subjects) for g in s.groups]
        columns = list(dict.fromkeys((f.name, f.at) for _, _, group in groups for f in group.findings))
        top = max((n for s in record.subjects if s.vulnerability for n in s.vulnerability.counts), default=0)
        ends = _ends([f for _, _, group in groups for f in group.findings if f.name == "auc"])
        return {
            "found": [row for i, s in enumerate(record.subjects) if (row := _found(i, s)) is not None],
            "risks": [risk for i, s in enumerate(record.subjects) if (risk := _risk(i, s, top)) is not None],
            "without": [s.name for s in record.subjects if s.vulnerability is None],
            "columns": [label(*column) for column in columns],
            "groups": [_group(i, s.name, group, columns, ends) for i, s, group in groups],
            "chosen": _KINDS if any(g.column == GROUP for _, _, g in groups) else "",
            "grouped_by": record.data.groups,
        }


def _risk(index: int, subject: Subject, top: int) -> Risk | None:
    spread = subject.vulnerability
    if spread is None:
        return None
    return Risk(
        subject.name,
        swatch(index),
        spread.attack,
        spread.models,
        histogram_chart(f"risk-{index}", index, subject.name, spread, top) if any(spread.counts) else None,
        [(_quantile(name), number(value)) for name, value in spread.quantiles.items()],
        shown(spread.worst_decile),
        spread.note,
    )


def _found(index: int, subject: Subject) -> Found | None:
    rates = subject.unit_rates
    if rates is None:
        return None
    top = max(rates.counts, default=0)
    return Found(
        subject.name,
        swatch(index),
        rates.attack,
        rate_label(rates.at),
        histogram_chart(f"found-{index}", index, subject.name, rates, top) if top else None,
        [(_quantile(name), percent(value)) for name, value in rates.quantiles.items()],
        shown(rates.worst),
        rates.note,
    )


def _group(
    index: int, subject: str, group: GroupResult, columns: list[tuple[str, float | None]], ends: tuple[float, float]
) -> GroupRow:
    found = {(f.name, f.at): f for f in group.findings}
    auc = found.get(("auc", None))
    strip = None
    if auc and auc.resolvable and auc.value is not None and auc.low is not None and auc.high is not None:
        strip = interval_strip(auc.value, auc.low, auc.high, ends, _CHANCE)
    cells = [shown(found[column]) if column in found else None for column in columns]
    return GroupRow(subject, swatch(index), group, cells, strip)


def _quantile(name: str) -> str:
    """Quantiles are named by their level, "0.95" for 95 %; other names stay."""
    try:
        return rate_label(float(name))
    except ValueError:
        return name


def _ends(aucs: list[Finding]) -> tuple[float, float]:
    known = [value for f in aucs for value in (f.value, f.low, f.high) if value is not None]
    return min([*known, 0.4]), max([*known, 0.6])
