"""Every attack with every number it gave."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.audit.record import AttackResult, AuditRecord, Finding
from sfumato.report.charts import needles_strip
from sfumato.report.section import Section
from sfumato.report.wording import Shown, duration, is_rate, label, number, percent, shown

_FIRST = ("auc", "balanced_accuracy", "tpr_at_fpr")
_CHANCE = 0.5


class Spread(NamedTuple):
    """The values of one finding over the targets: in words, and as a strip (None for other findings than the AUC)."""

    label: str
    text: str
    strip: Markup | None


class AttackRow(NamedTuple):
    """One attack on one subject; `cells` follows the columns, `others` are the findings without a column.

    `spread` holds what was measured by target, `unspread` names what was not.
    """

    position: int
    subject: str
    attack: AttackResult
    strongest: bool
    cells: list[Shown | None]
    others: list[Shown]
    spread: list[Spread]
    unspread: list[str]
    seconds: str


class AttacksSection(Section):
    """Section 5."""

    name: ClassVar[str] = "attacks"
    order: ClassVar[int] = 50
    title: ClassVar[str] = "All attacks, with intervals"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        columns = [column for column in _columns(record) if _resolved_somewhere(record, column)]
        ends = _auc_ends(record)
        rows = [
            _row(index, subject.name, attack, attack.name == subject.strongest, columns, ends)
            for index, subject in enumerate(record.subjects)
            for attack in subject.attacks
        ]
        return {
            "columns": [label(*column) for column in columns],
            "rows": rows,
            "unresolved": _unresolved(record),
            "spread": any(row.spread for row in rows),
            "methods": _methods(record),
        }


def _columns(record: AuditRecord) -> list[tuple[str, float | None]]:
    """AUC, balanced accuracy, then TPR from the largest to the smallest stated FPR."""
    findings = [f for subject in record.subjects for attack in subject.attacks for f in attack.findings]
    keys = {(f.name, f.at) for f in findings if f.name in _FIRST}
    return sorted(keys, key=lambda key: (_FIRST.index(key[0]), -(key[1] or 0)))


def _resolved_somewhere(record: AuditRecord, column: tuple[str, float | None]) -> bool:
    found = [_exactly(attack, *column) for subject in record.subjects for attack in subject.attacks]
    return any(finding is not None and shown(finding).resolved for finding in found)


def _unresolved(record: AuditRecord) -> list[str]:
    """Columns that would hold no number at all, as one sentence each."""
    attacks = [attack for subject in record.subjects for attack in subject.attacks]
    lines = []
    for column in _columns(record):
        if not _resolved_somewhere(record, column):
            values = dict.fromkeys(shown(f).value for attack in attacks if (f := _exactly(attack, *column)) is not None)
            lines.append(f"{label(*column)}: {', '.join(values)}")
    return lines


def _row(
    index: int,
    subject: str,
    attack: AttackResult,
    strongest: bool,
    columns: list[tuple[str, float | None]],
    ends: tuple[float, float],
) -> AttackRow:
    cells = {key: shown(finding) for key in columns if (finding := _exactly(attack, *key)) is not None}
    return AttackRow(
        index,
        subject,
        attack,
        strongest,
        [cells.get(key) for key in columns],
        [shown(finding) for finding in attack.findings if finding.name not in _FIRST],
        [spread for name, values in attack.per_target.items() if (spread := _spread(name, values, ends)) is not None],
        [_per_target_label(name) for name, values in attack.per_target.items() if not _known(values)],
        duration(attack.seconds) if attack.seconds else "",
    )


def _exactly(attack: AttackResult, name: str, at: float | None) -> Finding | None:
    return next((f for f in attack.findings if f.name == name and f.at == at), None)


def _methods(record: AuditRecord) -> list[str]:
    """How each finding's interval was made; a line that holds for every attack stands once."""
    lines: dict[str, list[str]] = {}
    for subject in record.subjects:
        for attack in subject.attacks:
            for line in _methods_of(attack):
                lines.setdefault(line, []).append(f"{attack.name} on {subject.name}")
    total = sum(len(subject.attacks) for subject in record.subjects)
    return [line if len(where) == total else f"{line} ({', '.join(where)})" for line, where in lines.items()]


def _methods_of(attack: AttackResult) -> list[str]:
    """Findings of one attack whose intervals were made the same way share a line."""
    grouped: dict[str, list[str]] = {}
    for finding in attack.findings:
        told = shown(finding)
        how = "; ".join(part for part in (told.method, told.counts, told.note) if part)
        if how:
            grouped.setdefault(how, []).append(told.label)
    return [f"{', '.join(labels)}: {how}" for how, labels in grouped.items()]


def _spread(name: str, values: list[float | None], ends: tuple[float, float]) -> Spread | None:
    known = _known(values)
    if not known or len(values) < 2:
        return None
    write = percent if is_rate(name.partition("@")[0]) else number
    text = f"{write(min(known))} to {write(max(known))} on {_targets(len(known), len(values))}"
    return Spread(_per_target_label(name), text, needles_strip(known, ends, _CHANCE) if name == "auc" else None)


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _targets(known: int, all_: int) -> str:
    return f"{all_} targets" if known == all_ else f"{known} of {all_} targets"


def _per_target_label(name: str) -> str:
    """Keys of `per_target` are names of findings, "tpr_at_fpr@0.01" where they belong to a point."""
    plain, _, at = name.partition("@")
    try:
        return label(plain, float(at)) if at else label(plain)
    except ValueError:
        return label(name)


def _auc_ends(record: AuditRecord) -> tuple[float, float]:
    attacks = [attack for subject in record.subjects for attack in subject.attacks]
    known = [value for attack in attacks for value in _known(attack.per_target.get("auc", []))]
    return min([*known, 0.4]), max([*known, 0.6])
