"""Risk of a random model against the number of answers: a line for each attack, and beside it what the weights give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from sfumato.audit.measured import EVERYONE, Finding, QueryRisk
from sfumato.audit.record import AuditRecord
from sfumato.report.charts.scale import Scale, around
from sfumato.report.charts.style import colour, dash, marker
from sfumato.report.charts.svg import Frame, label, picture, tag
from sfumato.report.wording import count, is_rate, number, rate_label, shown

_WIDTH, _HEIGHT = 460, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 350.0, 14.0, 272.0
_WEIGHTS = 405.0  # where stands what the weights give
_APART = 5.0  # attacks at one number of answers stand beside each other
_MARGIN = 1.3


def answers_chart(key: str, rows: Sequence[QueryRisk], name: str, at: float | None = None) -> Markup | None:
    """The finding `name` (at `at`) of all units by number of answers; None where it was never resolved.

    Args:
        key: unique on the page.
        rows: of one subject.
        name: of the finding, "auc" or "tpr_at_fpr".
        at: the point it belongs to.
    """
    attacks = attacks_asked(rows)
    fresh = {attack: _line(rows, attack, name, at) for attack in attacks}
    weights = {attack: _of_weights(rows, attack, name, at) for attack in attacks}
    found = [f for line in fresh.values() for _, f in line] + [f for f in weights.values() if f is not None]
    ks = sorted({k for line in fresh.values() for k, _ in line})
    if not found or not ks:
        return None
    chance = 0.5 if at is None else at
    x = Scale(ks[0] / _MARGIN, ks[-1] * _MARGIN, _LEFT, _RIGHT, log=True, name=_whole, marks=tuple(map(float, ks)))
    wide = around([chance, *_extent(found)], _BOTTOM, _TOP, rate_label if is_rate(name) else number)
    y = replace(wide, low=max(0.0, wide.low), high=min(1.0, wide.high))
    frame = Frame(_WIDTH, _HEIGHT, x, y, "Answers to each record", shown(found[0]).label)
    parts = [
        frame.axes(),
        tag("path", d=f"M{_LEFT:g} {y.at(chance):g}H{_WEIGHTS + 30:g}", class_="chance"),
        label("chance", _RIGHT - 4, y.at(chance) + 16, "end"),
        label("weights", _WEIGHTS, _BOTTOM + 24, "middle", "tick"),
        *(_drawn(i, len(attacks), fresh[a], weights[a], x, y) for i, a in enumerate(attacks)),
    ]
    title = f"{shown(found[0]).label} by number of answers"
    return picture(key, title, _told(fresh, weights), _WIDTH, _HEIGHT, parts)


def attacks_asked(rows: Sequence[QueryRisk]) -> list[str]:
    """The attacks in the order of the record; their places name their colours."""
    return list(dict.fromkeys(row.attack for row in rows))


def marks_needed(record: AuditRecord) -> int:
    """How many marks the page refers to: for each subject, each attack in a chart of answers, each method's curve."""
    asked = [len(attacks_asked(subject.query_risk)) for subject in record.subjects]
    curves = [] if record.frontier is None else [len(group.curves) for group in record.frontier.groups]
    return max([len(record.subjects), *asked, *curves])


def _line(rows: Sequence[QueryRisk], attack: str, name: str, at: float | None) -> list[tuple[int, Finding]]:
    """Rising numbers of answers with what was found; only averages of the statistic, as all attacks have them."""
    asked = [r for r in rows if (r.attack, r.group, r.average) == (attack, EVERYONE, "statistic")]
    plain = [r for r in asked if r.threat != "released weights"]
    found = {r.k: f for r in plain if (f := _resolved(r, name, at)) is not None}
    return sorted(found.items())


def _of_weights(rows: Sequence[QueryRisk], attack: str, name: str, at: float | None) -> Finding | None:
    """The highest that the attack found with the weights."""
    asked = [r for r in rows if (r.attack, r.group, r.threat) == (attack, EVERYONE, "released weights")]
    found = [f for r in asked if (f := _resolved(r, name, at)) is not None]
    return max(found, key=lambda f: f.value or 0.0, default=None)


def _resolved(row: QueryRisk, name: str, at: float | None) -> Finding | None:
    found = row.finding(name, at)
    return found if found is not None and found.resolvable and found.value is not None else None


def _drawn(
    index: int, attacks: int, line: list[tuple[int, Finding]], weights: Finding | None, x: Scale, y: Scale
) -> Markup:
    shift = (index - (attacks - 1) / 2) * min(_APART, 40 / attacks)
    placed = [(x.at(k) + shift, f) for k, f in line] + ([(_WEIGHTS + shift, weights)] if weights else [])
    corners = "L".join(f"{across:g} {y.at(f.value or 0.0):g}" for across, f in placed[: len(line)])
    path = [tag("path", d=f"M{corners}", class_="line", stroke_dasharray=dash(index))] if len(line) > 1 else []
    whiskers = [
        tag("path", d=f"M{across:g} {y.at(f.low):g}V{y.at(f.high):g}", class_="whisker")
        for across, f in placed
        if f.low is not None and f.high is not None
    ]
    marks = [marker(index, across, y.at(f.value or 0.0)) for across, f in placed]
    return tag("g", *path, *whiskers, *marks, class_=colour(index))


def _extent(findings: Sequence[Finding]) -> list[float]:
    return [value for f in findings for value in (f.value, f.low, f.high) if value is not None]


def _told(fresh: dict[str, list[tuple[int, Finding]]], weights: dict[str, Finding | None]) -> str:
    parts = []
    for attack, line in fresh.items():
        known = [f"{k}: {shown(f).text}" for k, f in line]
        found = weights[attack]
        known += [f"weights: {shown(found).text}"] if found else []
        parts += [f"{attack}: {', '.join(known)}"] if known else []
    return f"By number of answers. {'; '.join(parts)}."


def _whole(value: float) -> str:
    return count(round(value))
