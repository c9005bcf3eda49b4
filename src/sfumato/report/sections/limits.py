"""Warnings with their remedies, and what a test of this kind cannot say."""

from __future__ import annotations

from typing import Any, ClassVar

from sfumato.audit.record import AuditRecord
from sfumato.report.section import Section
from sfumato.report.wording import rate_label

_SEVERITIES = ("critical", "theoretical", "negligible")


class LimitsSection(Section):
    """Section 11."""

    name: ClassVar[str] = "limits"
    order: ClassVar[int] = 90
    title: ClassVar[str] = "Warnings and limits"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        return {
            "notices": sorted(record.notices, key=lambda notice: _SEVERITIES.index(notice.severity)),
            "unit": record.data.unit,
            "unresolved": _unresolved(record),
            "without_guarantee": [s.name for s in record.subjects if s.guarantee.status == "none"],
        }


def _unresolved(record: AuditRecord) -> list[str]:
    """The false positive rates at which some finding could not be resolved."""
    findings = [f for subject in record.subjects for attack in subject.attacks for f in attack.findings]
    rates = {f.at for f in findings if f.name == "tpr_at_fpr" and not f.resolvable and f.at is not None}
    return [rate_label(rate) for rate in sorted(rates, reverse=True)]
