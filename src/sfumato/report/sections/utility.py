"""Utility beside leakage over the compared subjects, and their paired differences."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.audit.record import AuditRecord, Comparison, Finding, Subject
from sfumato.audit.verdict import strongest_row
from sfumato.report.charts import interval_strip, plane_chart, swatch
from sfumato.report.charts.plane import Placed
from sfumato.report.section import Section
from sfumato.report.sections.guarantee import short
from sfumato.report.wording import Shown, duration, label, shown


class UtilityRow(NamedTuple):
    """One subject with its utility, the cost of its training and its formal guarantee."""

    subject: str
    swatch: Markup
    defence: str
    cells: list[Shown | None]
    seconds: str
    guarantee: str


class Difference(NamedTuple):
    """One paired difference, with a strip between the ends of its kind (None without interval)."""

    what: str
    attack: str
    subject: str
    baseline: str
    shown: Shown
    strip: Markup | None


class UtilitySection(Section):
    """Section 8."""

    name: ClassVar[str] = "utility"
    order: ClassVar[int] = 70
    title: ClassVar[str] = "Utility against leakage"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        columns = list(dict.fromkeys((f.name, f.at) for subject in record.subjects for f in subject.utility))
        return {
            "charts": _charts(record),
            "columns": [label(*column) for column in columns],
            "rows": [_row(index, subject, columns) for index, subject in enumerate(record.subjects)],
            "differences": [_difference(c, record.comparisons) for c in record.comparisons if _leads(c, record)],
            "further": [_difference(c, record.comparisons) for c in record.comparisons if not _leads(c, record)],
            "methods": list(
                dict.fromkeys(shown(c.difference).method for c in record.comparisons if c.difference.method)
            ),
            "several": len(record.subjects) > 1,
        }


def _row(index: int, subject: Subject, columns: list[tuple[str, float | None]]) -> UtilityRow:
    found = {(f.name, f.at): f for f in subject.utility}
    cells = [shown(found[column]) if column in found else None for column in columns]
    seconds = duration(subject.training_seconds) if subject.training_seconds else ""
    defence = f"{subject.defence.name}{', a reconstruction' if subject.defence.reconstruction else ''}"
    return UtilityRow(subject.name, swatch(index), defence, cells, seconds, short(subject))


def _charts(record: AuditRecord) -> list[Markup]:
    """The first utility measure against the AUC, and against the TPR at the smallest FPR that all subjects resolve."""
    measures: list[tuple[str, float | None]] = [
        ("auc", None),
        *(("tpr_at_fpr", fpr) for fpr in _common_rates(record)[:1]),
    ]
    placed = [_placed(record, name, at) for name, at in measures]
    return [plane_chart(f"plane-{i}", items) for i, items in enumerate(placed) if len(items) > 1]


def _common_rates(record: AuditRecord) -> list[float]:
    resolved = [
        {
            f.at
            for f in attack.findings
            if f.name == "tpr_at_fpr" and f.at is not None and f.resolvable and f.value is not None
        }
        for subject in record.subjects
        if (attack := strongest_row(subject)) is not None
    ]
    return sorted(set.intersection(*resolved)) if resolved else []


def _placed(record: AuditRecord, name: str, at: float | None) -> list[Placed]:
    """Subjects whose strongest attack has the finding and which have the record's first utility measure."""
    first = next((f.name for subject in record.subjects for f in subject.utility), "")
    items: list[Placed] = []
    for index, subject in enumerate(record.subjects):
        strongest = strongest_row(subject)
        leakage = strongest.finding(name, at) if strongest else None
        utility = next((f for f in subject.utility if f.name == first), None)
        if _has_value(leakage) and _has_value(utility) and leakage is not None and utility is not None:
            items.append(Placed(index, subject.name, leakage, utility))
    return items


def _has_value(finding: Finding | None) -> bool:
    return finding is not None and finding.resolvable and finding.value is not None


def _leads(comparison: Comparison, record: AuditRecord) -> bool:
    """Whether it is about utility or about an attack that is the strongest on one of the two subjects."""
    pair = (comparison.subject, comparison.baseline)
    return comparison.attack in ("", *(s.strongest for s in record.subjects if s.name in pair))


def _difference(comparison: Comparison, all_: list[Comparison]) -> Difference:
    difference = comparison.difference
    strip = None
    if _has_value(difference) and difference.low is not None and difference.high is not None:
        ends = _ends([c.difference for c in all_ if c.finding == comparison.finding])
        strip = interval_strip(difference.value or 0.0, difference.low, difference.high, ends, 0.0)
    return Difference(
        label(comparison.finding, comparison.at),
        comparison.attack,
        comparison.subject,
        comparison.baseline,
        shown(difference, comparison.finding),
        strip,
    )


def _ends(differences: list[Finding]) -> tuple[float, float]:
    """Ends of the strip: symmetric about no difference."""
    far = max(abs(value) for d in differences for value in (d.value, d.low, d.high, 1e-6) if value is not None)
    return -1.05 * far, 1.05 * far
