"""What no measurement may show: an attack above the curve that a guarantee permits. Then the guarantee is broken."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from sfumato.audit.inverted import ReconstructionBound
from sfumato.audit.measured import EVERYONE
from sfumato.audit.record import CheckResult, Finding, Notice, QueryRisk, Subject

BROKEN = "the guarantee is broken by this measurement"


class Above(NamedTuple):
    """One measurement that the guarantee of `subject` forbids, in words."""

    subject: str
    text: str


def above(subject: Subject) -> list[Above]:
    """Every measured lower bound of a subject that lies above what its guarantee permits.

    All true positive rates of all attacks share the level (Bonferroni), so that many attacks on a sound mechanism raise
    a false alarm no more often than one; ways of asking a random model and kinds of canaries count as further attacks,
    since a guarantee holds for each unit and whoever asks. Lower bounds on epsilon are compared with the epsilon at
    their own delta.
    """
    found_above = [Above(subject.name, broken.text) for broken in broken_bounds(subject)]
    promised = subject.guarantee.numbers
    if promised is None or promised.permitted is None:
        return found_above
    measured = [(attack.name, attack.findings) for attack in subject.attacks]
    measured += [(_named(row), row.findings) for row in subject.query_risk]
    judged = [
        (name, found, bound)
        for name, findings in measured
        for found in findings
        if found.name == "tpr_at_fpr" and found.resolvable and found.at is not None and found.low is not None
        if (bound := promised.permitted.at(found.at)) is not None
    ]
    found_above += [
        Above(
            subject.name,
            f"{name} finds at least {low:.3g} of the members at a false positive rate of {found.at:g}, where the "
            f"guarantee permits at most {bound:.3g}",
        )
        for name, found, bound in judged
        if (low := shared_low(found, len(judged))) > bound
    ]
    epsilons = {point.delta: point.epsilon for point in promised.profile}
    return found_above + [
        Above(
            subject.name,
            f"{bound.method} measures an epsilon of at least {bound.value:.3g} at delta {bound.delta:g}, where the "
            f"guarantee states at most {epsilons[bound.delta]:.3g}",
        )
        for bound in subject.epsilon
        if bound.delta in epsilons and bound.value > epsilons[bound.delta]
    ]


class Broken(NamedTuple):
    """A bound on reconstruction that a measurement lies above, and that in words."""

    bound: ReconstructionBound
    text: str


def broken_bounds(subject: Subject) -> list[Broken]:
    """Bounds on reconstruction that an attack lies above, at a level that all bounds of the subject share.

    Bounds on what is rebuilt of a class are left out: success without the class is not known there.
    """
    judged = [
        (result, bound, measure.attacked)
        for result in subject.inversions
        for bound in result.bounds
        if bound.applies and result.game != "class" and (measure := result.measure(bound.measured)) is not None
        if measure.attacked.resolvable
    ]
    return [
        Broken(
            bound,
            f"{result.name} is right in at least {low:.3g} of all cases ({bound.measured.replace('_', ' ')}), where "
            f"the guarantee permits at most {bound.permitted:.3g}",
        )
        for result, bound, found in judged
        if (low := shared_low(found, len(judged))) > bound.permitted
    ]


def _named(row: QueryRisk) -> str:
    return row.label if row.group == EVERYONE else f"{row.label} ({row.group})"


def shared_low(found: Finding, tests: int) -> float:
    """The lower end of an interval whose level is shared among `tests` intervals, by the normal approximation."""
    if found.value is None or found.low is None:
        return 0.0
    miss = 1 - found.confidence
    wider = NormalDist().inv_cdf(1 - miss / (2 * tests)) / NormalDist().inv_cdf(1 - miss / 2)
    return found.value - wider * (found.value - found.low)


def alarms(subjects: Sequence[Subject]) -> list[Notice]:
    """One critical notice for each subject whose guarantee is broken."""
    return [
        Notice(
            severity="critical",
            text=f"{name}: {BROKEN}: {'; '.join(texts)}.",
            remedy="Do not release models of this recipe, and report the defect: sampling, clipping, noise or "
            "accounting is not what the guarantee says.",
        )
        for name, texts in _by_subject(subjects).items()
    ]


def alarm_checks(subjects: Sequence[Subject]) -> list[CheckResult]:
    """One failed check for each subject whose guarantee is broken; none where nothing is: that proves nothing."""
    return [
        CheckResult(
            name=f"guarantee of {name}",
            condition="no attack above what the guarantee permits",
            outcome="failed",
            explanation=f"{BROKEN}: {'; '.join(texts)}",
        )
        for name, texts in _by_subject(subjects).items()
    ]


def _by_subject(subjects: Sequence[Subject]) -> dict[str, list[str]]:
    found = {subject.name: [one.text for one in above(subject)] for subject in subjects}
    return {name: texts for name, texts in found.items() if texts}
