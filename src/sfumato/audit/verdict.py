"""The sentence on top of a record, and the evidence for and against: facts with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from sfumato.attacks.catalogue import inversions
from sfumato.audit.alarm import BROKEN, above
from sfumato.audit.inversion.headline import IN_WORDS
from sfumato.audit.inversion.wording import SHOWS, Strongest, strongest_inversions
from sfumato.audit.measured import EVERYONE, Measured
from sfumato.audit.record import AttackResult, CheckResult, Finding, GroupResult, QueryRisk, Subject, Verdict
from sfumato.data.canaries import GROUP

R = TypeVar("R", bound=Measured)
Row = AttackResult | QueryRisk | GroupResult


def strongest(results: Sequence[AttackResult]) -> str:
    """The attack with the highest lower end of TPR at the least FPR that all could resolve; AUC's where none could.

    The name only points at a table: it is a choice made on the same scores, so the record says so beside it.
    """
    found = strongest_of(results)
    return "" if found is None else found.name


def strongest_row(subject: Subject) -> AttackResult | QueryRisk | None:
    """The strongest of all, by the rule of `strongest`: the strongest attack, or one that asked in another way.

    A model that answers at random is judged by the attacker who asks often, or who has the weights.
    """
    named = subject.attack(subject.strongest)
    rows: list[AttackResult | QueryRisk] = [named] if named is not None else []
    return strongest_of([*rows, *everyones(subject)])


def everyones(subject: Subject) -> list[QueryRisk]:
    """What was found on all units by asking in other ways."""
    return [row for row in subject.query_risk if row.group == EVERYONE]


def worst_kind(subject: Subject) -> GroupResult | None:
    """The kind of canary that was found most, by the rule of `strongest`; None where no two kinds were measured."""
    rows = [row for row in subject.groups if row.column == GROUP and (auc := row.finding("auc")) and auc.resolvable]
    return strongest_of(rows) if len(rows) > 1 else None


def strongest_of(results: Sequence[R]) -> R | None:
    """The strongest by the rule of `strongest`; None of none."""
    if not results:
        return None
    rates = [{f.at for f in r.findings if f.name == "tpr_at_fpr" and f.resolvable} for r in results]
    common = sorted(at for at in set.intersection(*rates) if at is not None and at <= 0.01)
    keys = [("tpr_at_fpr", at) for at in common[:1]] + [("auc", None)]
    return max(results, key=lambda r: tuple(_low(r.finding(name, at)) for name, at in keys))


def headline(result: Row) -> Finding:
    """The finding to quote: TPR at 1% FPR where it can be resolved, else at 10%, else the AUC."""
    for name, at in (("tpr_at_fpr", 0.01), ("tpr_at_fpr", 0.1), ("auc", None)):
        found = result.finding(name, at)
        if found is not None and found.resolvable:
            return found
    return result.findings[0]


def verdict(subjects: Sequence[Subject], checks: Sequence[CheckResult]) -> Verdict:
    """Status from the checks (the user's, and broken guarantees) alone; sentence and evidence from the findings."""
    sentences, in_favour, against = [], [], []
    for subject in subjects:
        _add_inversion(subject, in_favour, against)
        result = strongest_row(subject)
        if result is None and _only_inverted(subject):
            continue
        if result is None:
            against.append(f"{subject.name}: no attack could run, so nothing is known of what it gives away.")
            continue
        found = headline(result)
        sentences.append(f"{subject.name}: {describe(found)} ({result.label}){_worst(subject)}")
        shown = _shown_leakage(subject)
        (in_favour if shown is None else against).append(_evidence(subject, result, found) if shown is None else shown)
    against += [f"{c.name}: {c.explanation}" for c in checks if c.outcome == "failed"]
    in_favour += [f"{c.name}: {c.explanation}" for c in checks if c.outcome == "passed"]
    tested = f"Strongest attack found on each: {'; '.join(sentences) if sentences else 'nothing could be tested'}."
    if not sentences and any(_only_inverted(subject) for subject in subjects):
        tested = "No membership attack was run."
    broken = [subject.name for subject in subjects if above(subject)]
    return Verdict(
        status=status(checks),
        sentence="".join(f"{name}: {BROKEN}. " for name in broken) + tested + _inversion_sentence(subjects),
        in_favour=in_favour,
        against=against,
    )


Status = Literal["no thresholds given", "passed", "failed", "unknown"]


def status(checks: Sequence[CheckResult]) -> Status:
    """Worst outcome of the checks: failed before unknown before passed."""
    outcomes = {check.outcome for check in checks}
    order: tuple[Status, ...] = ("failed", "unknown", "passed")
    found: list[Status] = [outcome for outcome in order if outcome in outcomes]
    return found[0] if found else "no thresholds given"


def describe(found: Finding) -> str:
    """One finding in words, with its interval."""
    if found.value is None:
        return f"{found.name} could not be resolved"
    interval = (
        ""
        if found.low is None or found.high is None
        else f" [{_number(found, found.low)}, {_number(found, found.high)}]"
    )
    if found.name == "tpr_at_fpr" and found.at is not None:
        return f"{_number(found, found.value)}{interval} of members found at a false positive rate of {found.at:.3g}"
    return f"{found.name} {_number(found, found.value)}{interval}"


def _only_inverted(subject: Subject) -> bool:
    """Whether nothing but inversion was asked for."""
    names = set(inversions())
    return bool(subject.inversions) and all(one.attack in names for one in subject.not_run)


def _add_inversion(subject: Subject, in_favour: list[str], against: list[str]) -> None:
    """What inversion showed, class-level and record-level apart."""
    for line in strongest_inversions(subject):
        (against if line.shown else in_favour).append(f"{subject.name}: {told(line)}")


def _inversion_sentence(subjects: Sequence[Subject]) -> str:
    """Which subjects inversion gave something away of, and at which level."""
    tried = [subject for subject in subjects if subject.inversions]
    if not tried:
        return ""
    lines = [(subject.name, [one.level for one in strongest_inversions(subject) if one.shown]) for subject in tried]
    leaky = "; ".join(f"{name} ({'-level, '.join(levels)}-level)" for name, levels in lines if levels)
    return f" Shown to leak by inversion: {leaky}." if leaky else " Inversion showed no leakage that its control lacks."


def told(line: Strongest) -> str:
    """One line of inversion in words."""
    found = with_control(line)
    if line.shown:
        return f"{line.label} shows {SHOWS[line.level]} ({line.level}-level): {found}."
    return (
        f"no inversion attack tried gave away {SHOWS[line.level]} ({line.level}-level); {line.label} found {found}, so "
        "leakage within these intervals could not have been seen."
    )


def with_control(line: Strongest) -> str:
    """A measure of inversion in words, beside its control."""
    measure, name = line.measure, IN_WORDS[line.measure.name]
    attacked = describe(measure.attacked.model_copy(update={"name": name}))
    if measure.control is None:
        return attacked
    return f"{attacked}, {describe(measure.control.model_copy(update={'name': 'control'}))}"


def _worst(subject: Subject) -> str:
    """What was found on the worst kind of canary alone."""
    worst = worst_kind(subject)
    if worst is None:
        return ""
    return f", and of the worst kind of canary ({worst.group}) {describe(headline(worst))} ({worst.attack})"


def _shown_leakage(subject: Subject) -> str | None:
    """The evidence that some attack did better than chance, the strongest one first; None where none was shown to."""
    rows: list[Row] = [*subject.attacks, *everyones(subject)]
    rows += [worst] if (worst := worst_kind(subject)) else []
    first = strongest_row(subject)
    for result in sorted(rows, key=lambda row: row is not first):
        quoted = headline(result)
        for found in [quoted, *(f for f in result.findings if f is not quoted)]:
            if _beats_chance(found):
                return f"{subject.name}: {result.label} does better than chance, {describe(found)}."
    return None


def _evidence(subject: Subject, result: Row, found: Finding) -> str:
    return (
        f"{subject.name}: no attack tried was shown to do better than chance; {result.label} found {describe(found)}, "
        f"so leakage up to the upper end of that interval could not have been seen."
    )


def _beats_chance(found: Finding) -> bool:
    """AUC above 1/2, or a TPR above its FPR, by the whole interval; other numbers follow from these two."""
    chance = {"auc": 0.5, "tpr_at_fpr": found.at}.get(found.name)
    return found.resolvable and found.low is not None and chance is not None and found.low > chance


def _low(found: Finding | None) -> float:
    return -1.0 if found is None or found.low is None else found.low


def _number(found: Finding, value: float) -> str:
    return f"{value:.1%}" if found.name == "tpr_at_fpr" else f"{value:.3f}"
