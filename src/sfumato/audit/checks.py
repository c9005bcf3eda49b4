"""Thresholds that the user gives, tested against a record. Without thresholds nothing passes and nothing fails.

A `checks.toml` looks like this:

    [[check]]
    name = "few members named"
    finding = "tpr_at_fpr"     # any finding of an attack, or of the utility
    at = 0.01                  # where the finding has a point
    max = 0.05                 # passed if the interval lies below, failed if it lies above, else unknown
    subject = "undefended"     # optional, default every subject
    attack = "lira-online"     # optional, default every attack that ran

`min` instead of `max` is for what should be high, such as accuracy. A subject without the finding makes the outcome
unknown, whatever the others show. An attack on a model that answers at random is tested in every way that it asked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sfumato.audit.alarm import alarm_checks
from sfumato.audit.record import AuditRecord, CheckResult, Finding, Subject
from sfumato.audit.verdict import everyones
from sfumato.errors import UsageError
from sfumato.validate import one_of

Outcome = Literal["passed", "failed", "unknown"]


class Check(BaseModel):
    """One threshold; see the module's docstring for the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    finding: str
    at: float | None = None
    max: float | None = None
    min: float | None = None
    subject: str | None = None
    attack: str | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Check:
        if (self.max is None) == (self.min is None):
            raise ValueError("give exactly one of `max` and `min`")
        return self

    @property
    def condition(self) -> str:
        """In words, e.g. "tpr_at_fpr at 0.01 at most 0.05"."""
        point = "" if self.at is None else f" at {self.at:g}"
        bound = f"at most {self.max:g}" if self.max is not None else f"at least {self.min:g}"
        return f"{self.finding}{point} {bound}"


def load_checks(path: Path) -> tuple[Check, ...]:
    """Read a `checks.toml`.

    Raises:
        UsageError: if it cannot be read, holds no check, or has a key that is not known: a misspelt threshold would
            otherwise never be tested.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"Expected checks in {path}, got {error}.", remedy="See `sfumato.audit.checks`.") from error
    for key in raw:
        one_of(f"table in {path.name}", key, ("check",))
    rows = raw.get("check", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(
            f"Expected one [[check]] table or more in {path}, got none.",
            remedy="Write [[check]] with two pairs of brackets, or leave the file out.",
        )
    for key in (key for row in rows for key in row):
        one_of(f"key of a check in {path.name}", key, Check.model_fields)
    try:
        return tuple(Check.model_validate(row) for row in rows)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "a check"
        raise UsageError(
            f"Expected a complete check in {path}, got {first['msg']!r} at `{where}`.",
            remedy="Each check needs `name`, `finding`, and one of `max` and `min`.",
        ) from error


def run_checks(record: AuditRecord, checks: Sequence[Check]) -> list[CheckResult]:
    """What came of each threshold; a guarantee that the measurements break fails whether or not it was asked for."""
    return [*alarm_checks(record.subjects), *(_run(record, check) for check in checks)]


def exit_code(results: Sequence[CheckResult]) -> int:
    """0 where all passed or none was given, 2 where one failed, 3 where the data cannot tell."""
    outcomes = {result.outcome for result in results}
    return 2 if "failed" in outcomes else (3 if "unknown" in outcomes else 0)


def _run(record: AuditRecord, check: Check) -> CheckResult:
    """The worst of all that the check is about. Where nothing was measured nothing passes."""
    judged = [
        _Judged(_outcome(check, found.finding), f"{found.label}: {_shown(found.finding)}")
        for found in _findings(record, check)
    ]
    judged += _gaps(record, check)
    worst = min(judged, key=lambda item: ("failed", "unknown", "passed").index(item.outcome))
    return CheckResult(name=check.name, condition=check.condition, outcome=worst.outcome, explanation=worst.explanation)


class _Judged(NamedTuple):
    outcome: Outcome
    explanation: str


class _Found(NamedTuple):
    label: str
    finding: Finding


def _gaps(record: AuditRecord, check: Check) -> list[_Judged]:
    """What the check is about and the record does not hold: unknown, subject by subject."""
    names = [subject.name for subject in record.subjects]
    if check.subject is not None and check.subject not in names:
        return [_Judged("unknown", f"The record has no subject {check.subject!r}.{_near(check.subject, names)}")]
    asked = [subject for subject in record.subjects if check.subject in (None, subject.name)]
    gaps = [_Judged("unknown", _gap(subject, check)) for subject in asked if not _of_subject(subject, check)]
    return gaps if asked else [_Judged("unknown", "The record has no subject.")]


def _gap(subject: Subject, check: Check) -> str:
    """Why a subject has nothing that the check could be tested on."""
    reasons = {one.attack: "; ".join(one.reasons) for one in subject.not_run}
    if check.attack in reasons:
        return f"{subject.name}: {check.attack} could not run: {reasons[check.attack]}."
    ran = [attack.name for attack in subject.attacks]
    if check.attack is not None and check.attack not in ran:
        return f"{subject.name} has no result of attack {check.attack!r}.{_near(check.attack, ran)}"
    several = [*subject.utility, *(finding for attack in subject.attacks for finding in attack.findings)]
    points = sorted({f.at for f in several if f.name == check.finding and f.at is not None})
    if points and check.at is not None:
        return f"{subject.name} has `{check.finding}` at {', '.join(f'{at:g}' for at in points)}, not at {check.at:g}."
    return f"{subject.name} has no finding `{check.finding}`.{_near(check.finding, [f.name for f in several])}"


def _near(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _findings(record: AuditRecord, check: Check) -> list[_Found]:
    asked = [subject for subject in record.subjects if check.subject in (None, subject.name)]
    return [found for subject in asked for found in _of_subject(subject, check)]


def _of_subject(subject: Subject, check: Check) -> list[_Found]:
    found = []
    if check.attack is None:
        found += [_Found(_label(subject.name, f), f) for f in subject.utility if _matches(check, f)]
    for attack in subject.attacks:
        if check.attack in (None, attack.name):
            label = f"{subject.name}, {attack.name}"
            found += [_Found(_label(label, f), f) for f in attack.findings if _matches(check, f)]
    for row in everyones(subject):
        if check.attack in (None, row.attack):
            label = f"{subject.name}, {row.label}"
            found += [_Found(_label(label, f), f) for f in row.findings if _matches(check, f)]
    return found


def _label(where: str, finding: Finding) -> str:
    return where if finding.at is None else f"{where} at {finding.at:g}"


def _matches(check: Check, finding: Finding) -> bool:
    same_point = check.at is None or (finding.at is not None and abs(finding.at - check.at) < 1e-12)
    return finding.name == check.finding and same_point


def _outcome(check: Check, finding: Finding) -> Outcome:
    if finding.low is None or finding.high is None:
        return "unknown"
    if check.max is not None:
        return "passed" if finding.high <= check.max else ("failed" if finding.low > check.max else "unknown")
    least = check.min if check.min is not None else 0.0
    return "passed" if finding.low >= least else ("failed" if finding.high < least else "unknown")


def _shown(finding: Finding) -> str:
    why = f" ({finding.note})" if finding.note else ""
    if finding.value is None:
        return f"not resolvable{why}"
    if finding.low is None or finding.high is None:
        return f"{finding.value:.4g} without an interval{why}"
    return f"{finding.value:.4g} [{finding.low:.4g}, {finding.high:.4g}]"
