"""Models that answer at random: risk against the number of answers, and three threat models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, get_args

from markupsafe import Markup

from sfumato.audit.measured import EVERYONE, NOISE_ONLY, QueryRisk, Threat
from sfumato.audit.record import AuditRecord, Subject
from sfumato.audit.verdict import strongest_of
from sfumato.report.charts import answers_chart, attacks_asked, swatch
from sfumato.report.section import Section
from sfumato.report.wording import Shown, label, shown

THREATS: tuple[Threat, ...] = get_args(Threat)
_COLUMNS: tuple[tuple[str, float | None], ...] = (
    ("auc", None),
    ("tpr_at_fpr", 0.1),
    ("tpr_at_fpr", 0.01),
    ("tpr_at_fpr", 0.001),
)
_ACCURACIES = "accuracy-"
_MOST_WAYS = 150  # rows on a page; above, only the attacks that are the strongest of some threat model


class Best(NamedTuple):
    """The strongest of one threat model: how it asked, AUC and TPR at 1% FPR; `how` is "" where none was tried."""

    how: str
    auc: Shown | None
    tpr: Shown | None


class Group(NamedTuple):
    """All units, or one kind of canary, with the strongest of each threat model."""

    name: str
    threats: list[Best]


class Way(NamedTuple):
    """One way of asking; `cells` follow the columns."""

    position: int
    row: QueryRisk
    cells: list[Shown | None]


class Random(NamedTuple):
    """One subject that answers at random; `left_out` counts the ways of asking that are not printed, for space."""

    subject: str
    swatch: Markup
    charts: list[Markup]
    legend: list[tuple[int, str]]
    groups: list[Group]
    ways: list[Way]
    left_out: int
    accuracies: list[tuple[str, Shown]]


class QueriesSection(Section):
    """Section 6."""

    name: ClassVar[str] = "queries"
    order: ClassVar[int] = 55
    title: ClassVar[str] = "One query, many queries, the weights"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        every = sum(row.group == EVERYONE for subject in record.subjects for row in subject.query_risk)
        return {
            "noise_only": NOISE_ONLY,
            "threats": THREATS,
            "columns": [label(*column) for column in _COLUMNS],
            "randoms": [_random(i, s, every <= _MOST_WAYS) for i, s in enumerate(record.subjects) if s.random_answers],
            "always": [s.name for s in record.subjects if s.random_answers is False],
            "unknown": [s.name for s in record.subjects if s.random_answers is None],
        }


def _random(index: int, subject: Subject, every: bool) -> Random:
    rows = subject.query_risk
    attacks = attacks_asked(rows)
    auc = answers_chart(f"answers-{index}-auc", rows, "auc")
    rare = answers_chart(f"answers-{index}-tpr", rows, *_rare(rows))
    everyones = [row for row in rows if row.group == EVERYONE]
    leading = {best.attack for threat in THREATS if (best := _strongest(everyones, threat)) is not None}
    printed = [row for row in everyones if every or row.attack in leading]
    return Random(
        subject.name,
        swatch(index),
        [chart for chart in (auc, rare) if chart is not None],
        list(enumerate(attacks)),
        [_group(rows, group) for group in dict.fromkeys(row.group for row in rows)],
        [_way(attacks.index(row.attack), row) for row in printed],
        len(everyones) - len(printed),
        [
            (found.name.removeprefix(_ACCURACIES).replace("-", " "), shown(found))
            for found in subject.utility
            if found.name.startswith(_ACCURACIES)
        ],
    )


def _rare(rows: Sequence[QueryRisk]) -> tuple[str, float]:
    """The TPR at 1% FPR where it was resolved, else at 10%."""
    for at in (0.01, 0.1):
        found = [row.finding("tpr_at_fpr", at) for row in rows if row.group == EVERYONE]
        if any(f is not None and f.resolvable for f in found):
            return "tpr_at_fpr", at
    return "tpr_at_fpr", 0.1


def _group(rows: Sequence[QueryRisk], name: str) -> Group:
    inside = [row for row in rows if row.group == name]
    return Group("all units" if name == EVERYONE else name, [_best(inside, threat) for threat in THREATS])


def _best(rows: Sequence[QueryRisk], threat: Threat) -> Best:
    found = _strongest(rows, threat)
    if found is None:
        return Best("", None, None)
    auc, tpr = found.finding("auc"), found.finding(*_rare_of(found))
    return Best(found.label, shown(auc) if auc else None, shown(tpr) if tpr else None)


def _strongest(rows: Sequence[QueryRisk], threat: Threat) -> QueryRisk | None:
    return strongest_of([row for row in rows if row.threat == threat])


def _rare_of(row: QueryRisk) -> tuple[str, float]:
    """As `_rare`, for one row."""
    found = row.finding("tpr_at_fpr", 0.01)
    return "tpr_at_fpr", 0.01 if found is not None and found.resolvable else 0.1


def _way(position: int, row: QueryRisk) -> Way:
    found = [next((f for f in row.findings if (f.name, f.at) == column), None) for column in _COLUMNS]
    return Way(position, row, [shown(f) if f is not None else None for f in found])
