"""The log-log ROC, and the true positive rate at the stated false positive rates."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from sfumato.audit.record import AttackResult, AuditRecord
from sfumato.report.charts import roc_chart, swatch
from sfumato.report.charts.roc import Drawn, drawn_curves, position
from sfumato.report.charts.style import colour
from sfumato.report.section import Section
from sfumato.report.sections.guarantee import compared
from sfumato.report.wording import Shown, rate_label, shown

_FIRST = 0.01  # where the slider stands at first, if the record states it


class Rate(NamedTuple):
    """One stop of the slider: the rate, its label, and its place in the chart."""

    fpr: float
    label: str
    x: float


class Row(NamedTuple):
    """One attack on one subject; `cells` has one entry per stop, None where it was not measured."""

    drawn: Drawn
    subject: str
    cells: list[Shown | None]


class ROCSection(Section):
    """Section 4."""

    name: ClassVar[str] = "roc"
    order: ClassVar[int] = 40
    title: ClassVar[str] = "How many members an attacker finds"

    def context(self, record: AuditRecord) -> dict[str, Any]:
        curves = drawn_curves(record)
        rates = stated_rates(record)
        stops = [Rate(fpr, rate_label(fpr), position(record, fpr)) for fpr in rates]
        rows = [_row(record, drawn, rates) for drawn in curves]
        return {
            "chart": roc_chart(record) if curves else None,
            "rates": stops,
            "first": rates.index(_FIRST) if _FIRST in rates else max(0, len(rates) - 1),
            "rows": rows,
            "strongest": [row for row in rows if row.drawn.strongest],
            "attacks": _attacks(record, curves),
            "permitted": [
                (colour(i), s.name)
                for i, s in enumerate(record.subjects)
                if s.guarantee.numbers is not None and s.guarantee.numbers.permitted is not None
            ],
            "sentences": [sentence for s in record.subjects if (sentence := compared(s))],
            "legend": [
                (i, s.name, swatch(i)) for i, s in enumerate(record.subjects) if any(c.subject == i for c in curves)
            ],
        }


def stated_rates(record: AuditRecord) -> list[float]:
    """All false positive rates at which the record states a TPR, rising."""
    attacks = [attack for subject in record.subjects for attack in subject.attacks]
    return sorted({f.at for attack in attacks for f in attack.findings if f.name == "tpr_at_fpr" and f.at is not None})


def _row(record: AuditRecord, drawn: Drawn, rates: list[float]) -> Row:
    return Row(drawn, record.subjects[drawn.subject].name, [_cell(drawn.result, fpr) for fpr in rates])


def _cell(attack: AttackResult, fpr: float) -> Shown | None:
    finding = attack.finding("tpr_at_fpr", fpr)
    return shown(finding) if finding else None


def _attacks(record: AuditRecord, curves: list[Drawn]) -> list[tuple[str, str]]:
    """Each attack once, with the curves ("subject.attack") that its tab shows."""
    shown_by: dict[str, list[str]] = {}
    for drawn in curves:
        shown_by.setdefault(drawn.attack_name, []).append(f"{drawn.subject}.{drawn.attack}")
    return [(name, " ".join(keys)) for name, keys in shown_by.items()]
