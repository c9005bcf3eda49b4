"""The sentence on top, the evidence for and against it, the user's own thresholds, and each strongest attack."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from sfumato.audit.measured import Measured
from sfumato.audit.record import AuditRecord, Finding, Subject
from sfumato.audit.verdict import strongest_row
from sfumato.report.section import Section
from sfumato.report.wording import Shown, amount, reading, shown

_MARKS = {"passed": "\u2713", "failed": "\u2717", "unknown": "?", "no thresholds given": "\u2013"}


class Headline(NamedTuple):
    """One subject on one line; `auc` and `tpr` are None where no such number was measured."""

    position: int
    subject: str
    attack: str
    auc: Shown | None
    tpr: Shown | None
    reading: str


class VerdictSection(Section):
    """Section 1."""

    name: ClassVar[str] = "verdict"
    order: ClassVar[int] = 10
    title: ClassVar[str] = "Verdict"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        return {
            "verdict": record.verdict,
            "mark": _MARKS[record.verdict.status],
            "marks": _MARKS,
            "checks": record.checks,
            "headlines": [headline(index, subject) for index, subject in enumerate(record.subjects)],
        }


def headline(index: int, subject: Subject) -> Headline:
    """What the strongest attack found on one subject."""
    strongest = strongest_row(subject)
    if strongest is None and subject.inversions:
        tried = amount(len({one.name for one in subject.inversions}), "inversion attack")
        return Headline(index, subject.name, "", None, None, f"No membership attack ran. For {tried}, see below.")
    if strongest is None:
        return Headline(index, subject.name, "", None, None, "Could not test: no attack ran.")
    auc, tpr = strongest.finding("auc"), lowest_resolvable(strongest)
    return Headline(
        index,
        subject.name,
        strongest.label,
        shown(auc) if auc else None,
        shown(tpr) if tpr else None,
        reading(strongest),
    )


def lowest_resolvable(attack: Measured) -> Finding | None:
    """The TPR at the smallest FPR that the data resolve, else the one at the largest FPR, else None."""
    rates = sorted((f for f in attack.findings if f.name == "tpr_at_fpr" and f.at is not None), key=lambda f: f.at or 0)
    return next((f for f in rates if f.resolvable and f.value is not None), rates[-1] if rates else None)
