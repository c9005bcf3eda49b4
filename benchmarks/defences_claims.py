"""The claims of `defences.py`: sentences from a file that was there before the run, and the rule for verdicts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sfumato.audit.curves import EqualAccuracy, Frontier, GroupFrontier
from sfumato.audit.measured import Finding
from sfumato.cli.fields import make

Word = Literal["confirmed", "refuted", "not decided"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim, what would confirm it, and the pairs of methods that decide; see docs/results/defences_claims.toml."""

    id: str
    claim: str
    confirms: str
    refutes: str
    subjects: tuple[str, ...]
    baselines: tuple[str, ...]
    sign: Literal["below", "above"]


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What all claims share, and the claims."""

    group: str
    finding: str
    fpr: float
    fewest_models: int
    claims: tuple[Claim, ...] = ()


class Pair(NamedTuple):
    """Two methods at equal accuracy: subject less baseline."""

    subject: str
    baseline: str
    accuracy: float | None
    difference: Finding | None
    note: str
    word: Word


class Verdict(NamedTuple):
    """What came of a claim, with the pairs that decided."""

    word: Word
    pairs: list[Pair]
    reasons: list[str]


def claims_from(path: Path) -> Fixed:
    """The file of claims; unknown keys are refused."""
    raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    claims = tuple(make(Claim, table, f"the claim {table.get('id', '')}") for table in raw.pop("claim"))
    return replace(make(Fixed, raw, path.name), claims=claims)


def judged(claim: Claim, frontier: Frontier | None, fixed: Fixed, models: int) -> Verdict:
    """The verdict; few models, or a method that is missing, decide nothing."""
    group = None if frontier is None else frontier.group(fixed.group)
    if group is None:
        return Verdict("not decided", [], [f"There are no curves of the group {fixed.group!r}."])
    there = {curve.method for curve in group.curves}
    missing = [name for name in (*claim.subjects, *claim.baselines) if name not in there]
    pairs = [
        pair_of(group, subject, baseline, claim, fixed)
        for subject in claim.subjects
        for baseline in claim.baselines
        if {subject, baseline} <= there
    ]
    reasons = [f"Not run yet: {', '.join(missing)}."] if missing else []
    if models < fixed.fewest_models:
        reasons.append(f"Only {models} models of each contender; {fixed.fewest_models} are the least.")
    word: Word = "not decided" if reasons or not pairs else together(claim, pairs)
    return Verdict(word, pairs, reasons)


def together(claim: Claim, pairs: list[Pair]) -> Word:
    """One subject that confirms against every baseline is enough; a refutation needs every subject to fail."""
    rows = [[pair.word for pair in pairs if pair.subject == subject] for subject in claim.subjects]
    if any(all(word == "confirmed" for word in row) for row in rows):
        return "confirmed"
    return "refuted" if all("refuted" in row for row in rows) else "not decided"


def pair_of(group: GroupFrontier, subject: str, baseline: str, claim: Claim, fixed: Fixed) -> Pair:
    """What the record says of two methods, whichever way round it has them."""
    row = next(r for r in group.differences if {r.subject, r.baseline} == {subject, baseline})
    found = _directed(row, subject, fixed)
    if row.accuracy is None:
        behind = row.note.startswith(f"every setting of {baseline} ")
        lost = behind and claim.sign == "below"
        return Pair(subject, baseline, None, None, row.note, "refuted" if lost else "not decided")
    if found is None or found.value is None or found.low is None or found.high is None:
        note = "" if found is None else found.note
        return Pair(subject, baseline, row.accuracy, None, note or "not measured", "not decided")
    return Pair(subject, baseline, row.accuracy, found, "", _word(found.low, found.high, claim.sign))


def _word(low: float, high: float, sign: str) -> Word:
    below, above = high < 0, low > 0
    confirmed, refuted = (below, above) if sign == "below" else (above, below)
    return "confirmed" if confirmed else "refuted" if refuted else "not decided"


def _directed(row: EqualAccuracy, subject: str, fixed: Fixed) -> Finding | None:
    at = fixed.fpr if fixed.finding == "tpr_at_fpr" else None
    found = next((f for f in row.differences if (f.name, f.at) == (fixed.finding, at)), None)
    if found is None or found.value is None or row.subject == subject:
        return found
    low, high = found.low, found.high
    turned = {"value": -found.value, "low": None if high is None else -high, "high": None if low is None else -low}
    return found.model_copy(update=turned)
