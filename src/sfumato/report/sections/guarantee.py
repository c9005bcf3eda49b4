"""Formal guarantees in numbers: epsilon at several deltas, and what was measured beside what is permitted."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import rounded_up
from sfumato.audit.alarm import BROKEN, above
from sfumato.audit.record import AuditRecord, GuaranteeNumbers, Subject
from sfumato.report.charts import swatch
from sfumato.report.section import Section
from sfumato.report.wording import amount, percent, rate_label

_POINTS = (0.01, 0.1)


class Promise(NamedTuple):
    """One subject's formal guarantee; `profile` holds (delta, epsilon), `broken` every measurement that breaks it."""

    subject: str
    swatch: Markup
    statement: str
    facts: list[tuple[str, str]]
    profile: list[tuple[str, str]]
    sentence: str
    broken: list[str]


class GuaranteeSection(Section):
    """Section 9."""

    name: ClassVar[str] = "guarantee"
    order: ClassVar[int] = 75
    title: ClassVar[str] = "Formal guarantees"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        return {
            "promises": [
                _promise(index, subject, subject.guarantee.numbers)
                for index, subject in enumerate(record.subjects)
                if subject.guarantee.numbers is not None
            ],
            "without": [(s.name, s.guarantee.statement) for s in record.subjects if s.guarantee.numbers is None],
            "alarm": BROKEN,
        }


def short(subject: Subject) -> str:
    """The guarantee in a table cell."""
    numbers = subject.guarantee.numbers
    if numbers is None:
        return "none"
    audit = ", audit run" if numbers.audit_only else ""
    return f"epsilon {rounded_up(numbers.epsilon, 3)} at delta {numbers.delta:g}{audit}"


def compared(subject: Subject) -> str:
    """The strongest measurement beside what the guarantee permits there, in a sentence; "" without a curve."""
    curve = subject.guarantee.numbers and subject.guarantee.numbers.permitted
    if not curve:
        return ""
    rule = f"{subject.name}: no attack may lie above the curve that the guarantee permits"
    measured = [f for one in (*subject.attacks, *subject.query_risk) for f in one.findings]
    for at in (*_POINTS, *sorted({f.at for f in measured if f.at is not None})):
        rates = [
            f.value for f in measured if f.name == "tpr_at_fpr" and f.at == at and f.resolvable and f.value is not None
        ]
        bound = curve.at(at)
        if rates and bound is not None:
            return (
                f"{rule}; the strongest measured TPR at {rate_label(at)} FPR is {percent(max(rates))} of the permitted "
                f"{percent(bound)}."
            )
    return f"{rule}; no attack resolved a TPR at a rate where the curve is known."


def _promise(index: int, subject: Subject, numbers: GuaranteeNumbers) -> Promise:
    return Promise(
        subject.name,
        swatch(index),
        subject.guarantee.statement,
        _facts(numbers),
        [(f"{point.delta:.3g}", rounded_up(point.epsilon, 3)) for point in numbers.profile],
        compared(subject),
        [one.text for one in above(subject)],
    )


def _facts(numbers: GuaranteeNumbers) -> list[tuple[str, str]]:
    noise = "from a seed: an audit run, not for release" if numbers.audit_only else "from the operating system"
    if numbers.permitted is None:
        curve = numbers.note or "not computed"
    else:
        curve = f"for {amount(numbers.permitted.group_size, 'change')} of one unit, as this game makes them"
    return [
        ("Epsilon", rounded_up(numbers.epsilon, 3)),
        ("Delta", f"{numbers.delta:g}"),
        ("Neighbouring data sets", _relation(numbers.adjacency)),
        ("Unit", numbers.unit),
        ("Noise", noise),
        ("Permitted curve", curve),
    ]


def _relation(name: str) -> str:
    """A record from elsewhere may name a relation that is not known here."""
    return f"{Adjacency(name).words} ({name})" if name in list(Adjacency) else name
