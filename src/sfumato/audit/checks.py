"""Thresholds that the user gives, tested against a record. Without thresholds nothing passes and nothing fails.

A `checks.toml` looks like this:

    [[check]]
    name = "few members named"
    finding = "tpr_at_fpr"     # any finding of an attack, or of the utility
    at = 0.01                  # where the finding has a point
    max = 0.05                 # passed if the interval lies below, failed if it lies above, else unknown
    subject = "undefended"     # optional, default every subject
    attack = "lira-online"     # optional, default every attack

`min` instead of `max` is for what should be high, such as accuracy.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sfumato.audit.record import AuditRecord, CheckResult, Finding
from sfumato.errors import UsageError

Outcome = Literal["passed", "failed", "unknown"]


class Check(BaseModel):
    """One threshold; see the module's docstring for the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    """Read a `checks.toml`."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"Expected checks in {path}, got {error}.", remedy="See `sfumato.audit.checks`.") from error
    if set(raw) != {"check"} or not isinstance(raw["check"], list):
        raise UsageError(f"Expected [[check]] tables only in {path}, got {sorted(raw)}.")
    try:
        return tuple(Check.model_validate(row) for row in raw["check"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "a check"
        raise UsageError(f"Expected a complete check in {path}, got {first['msg']!r} at `{where}`.") from error


def run_checks(record: AuditRecord, checks: Sequence[Check]) -> list[CheckResult]:
    """What came of each threshold."""
    return [_run(record, check) for check in checks]


def exit_code(results: Sequence[CheckResult]) -> int:
    """0 where all passed or none was given, 2 where one failed, 3 where the data cannot tell."""
    outcomes = {result.outcome for result in results}
    return 2 if "failed" in outcomes else (3 if "unknown" in outcomes else 0)


def _run(record: AuditRecord, check: Check) -> CheckResult:
    found = _findings(record, check)
    if not found:
        return CheckResult(
            name=check.name,
            condition=check.condition,
            outcome="unknown",
            explanation=f"The record has no finding `{check.finding}` for this check.",
        )
    judged = [_Judged(_outcome(check, finding), f"{label}: {_shown(finding)}") for label, finding in found]
    worst = min(judged, key=lambda item: ("failed", "unknown", "passed").index(item.outcome))
    return CheckResult(name=check.name, condition=check.condition, outcome=worst.outcome, explanation=worst.explanation)


class _Judged(NamedTuple):
    outcome: Outcome
    explanation: str


def _findings(record: AuditRecord, check: Check) -> list[tuple[str, Finding]]:
    found = []
    for subject in record.subjects:
        if check.subject not in (None, subject.name):
            continue
        if check.attack is None:
            found += [(subject.name, f) for f in subject.utility if _matches(check, f)]
        for attack in subject.attacks:
            if check.attack in (None, attack.name):
                found += [(f"{subject.name}, {attack.name}", f) for f in attack.findings if _matches(check, f)]
    return found


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
    if finding.value is None or finding.low is None or finding.high is None:
        return f"not resolvable ({finding.note})" if finding.note else "not resolvable"
    return f"{finding.value:.4g} [{finding.low:.4g}, {finding.high:.4g}]"
