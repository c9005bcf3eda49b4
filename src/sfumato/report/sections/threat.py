"""Who could mount each attack, and what was not tested and why."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from sfumato.audit.record import AttackResult, AuditRecord
from sfumato.report.section import Section


class Threat(NamedTuple):
    """One attack's assumptions, with the subjects on which it ran."""

    attack: AttackResult
    subjects: list[str]


class Missing(NamedTuple):
    """One attack that could not run on these subjects, for these reasons."""

    attack: str
    subjects: list[str]
    reasons: list[str]


class ThreatSection(Section):
    """Section 3."""

    name: ClassVar[str] = "threat"
    order: ClassVar[int] = 30
    title: ClassVar[str] = "Threat model, and what was not tested"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        return {
            "threats": _threats(record),
            "several": len(record.subjects) > 1,
            "missing": _missing(record),
            "not_tested": record.not_tested,
        }


def _threats(record: AuditRecord) -> list[Threat]:
    """Attacks with one and the same threat model on several subjects are one row."""
    rows: dict[tuple[str, ...], Threat] = {}
    for subject in record.subjects:
        for attack in subject.attacks:
            key = (attack.name, attack.access, attack.knowledge, attack.queries, attack.unit_rule)
            rows.setdefault(key, Threat(attack, [])).subjects.append(subject.name)
    return list(rows.values())


def _missing(record: AuditRecord) -> list[Missing]:
    rows: dict[tuple[str, ...], Missing] = {}
    for subject in record.subjects:
        for absent in subject.not_run:
            rows.setdefault(
                (absent.attack, *absent.reasons), Missing(absent.attack, [], absent.reasons)
            ).subjects.append(subject.name)
    return list(rows.values())
