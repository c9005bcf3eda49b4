"""Defences that set reference data aside: the privacy of those records beside that of the records that were fitted."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.audit.record import AuditRecord, ReferenceRisk, Subject
from sfumato.report.charts import interval_strip, swatch
from sfumato.report.section import Section
from sfumato.report.wording import Shown, label, number, shown

_COLUMNS: tuple[tuple[str, float | None], ...] = (("auc", None), ("tpr_at_fpr", 0.01))
_CHANCE = 0.5
_ROLES = {
    "fit": "a network was fitted to them",
    "validation": "set aside for validation",
    "reference": "set aside as reference data",
}


class RoleRow(NamedTuple):
    """Members of one role of one subject; `cells` follow the columns, `strip` is the AUC, None where there is none."""

    subject: str
    swatch: Markup
    role: str
    units: str
    attack: str
    cells: list[Shown | None]
    strip: Markup | None
    note: str


class ReferenceDataSection(Section):
    """Behind section 7."""

    name: ClassVar[str] = "reference-data"
    order: ClassVar[int] = 65
    title: ClassVar[str] = "Records set aside as reference data"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        rows = [(i, s, risk) for i, s in enumerate(record.subjects) for risk in s.reference_risk]
        ends = _ends([risk for _, _, risk in rows])
        return {
            "columns": [label(*column) for column in _COLUMNS],
            "rows": [_row(i, s, risk, ends) for i, s, risk in rows],
            "unmeasured": [s.name for s in record.subjects if not s.reference_risk and _sets_aside(s)],
            "methods": _methods([risk for _, _, risk in rows]),
        }


def _row(index: int, subject: Subject, risk: ReferenceRisk, ends: tuple[float, float]) -> RoleRow:
    found = {(f.name, f.at): f for f in risk.findings}
    auc, strip = found.get(("auc", None)), None
    if auc and auc.resolvable and auc.value is not None and auc.low is not None and auc.high is not None:
        strip = interval_strip(auc.value, auc.low, auc.high, ends, _CHANCE)
    return RoleRow(
        subject.name,
        swatch(index),
        _ROLES.get(risk.role, risk.role),
        "not known" if risk.units is None else number(risk.units),
        risk.attack,
        [shown(found[column]) if column in found else None for column in _COLUMNS],
        strip,
        risk.note,
    )


def _sets_aside(subject: Subject) -> bool:
    return any(need.startswith("reference data") for need in subject.defence.needs)


def _methods(risks: list[ReferenceRisk]) -> list[str]:
    """How the intervals were made, each way once."""
    told = [shown(f) for risk in risks for f in risk.findings]
    return list(dict.fromkeys(f"{one.label}: {one.method}" for one in told if one.resolved and one.method))


def _ends(risks: list[ReferenceRisk]) -> tuple[float, float]:
    aucs = [f for risk in risks for f in risk.findings if f.name == "auc"]
    known = [value for f in aucs for value in (f.value, f.low, f.high) if value is not None]
    return min([*known, 0.4]), max([*known, 0.6])
