"""What a record says about inversion besides its numbers: notices, what was left untested, and the lines on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.audit.inversion.headline import inversion_headline
from sfumato.audit.inverted import InversionResult, Measure
from sfumato.audit.record import Notice, Subject
from sfumato.data.classes import unit_is_class
from sfumato.data.population import Population

Leaked = Literal["class", "record"]
LEVELS: tuple[Leaked, ...] = ("class", "record")
SHOWS = {
    "class": "what a class or the population looks like",
    "record": "more of the training records than of others",
}

TWO_LEVELS = Notice(
    severity="theoretical",
    text="What a class looks like is class-level leakage. It is no leakage of the training records: whoever learns the "
    "class learns it, from any records of it. Only the record-level measures compare training records with others.",
    remedy="Judge a defence of records by the record-level measures.",
)
UNIT_IS_CLASS = Notice(
    severity="critical",
    text="Each class is one unit of privacy here: to learn a class is to learn a person. Then no useful guarantee at "
    "the level of persons can exist, because learning the class is the task: a guarantee that hides whether a person "
    "was there hides the class, and with it the accuracy.",
    remedy="Protect records of a person (state what that leaves open), or train on people whom nobody has to tell "
    "apart.",
)
EVALUATED = Notice(
    severity="theoretical",
    text="Verdicts of an evaluation network overestimate leakage: guesses can pass without any likeness to the class "
    "(claimed by Ho et al., 2025, arXiv 2505.03519).",
    remedy="Read them beside the disputed successes and the distances.",
)
NO_MEMBERSHIP = "membership inference"
INVERSION_UNTESTED = "model inversion and reconstruction"
ATTRIBUTE_UNTESTED = "attribute inference"
BOTH_UNTESTED = "model inversion, attribute inference and reconstruction"


class Strongest(NamedTuple):
    """The clearest sign of leakage at one level, over all inversion attacks on a subject.

    Attributes:
        level: "class" or "record".
        result: of the attack.
        measure: the one that is fixed for its game (see `inversion_headline`), with its control.
        shown: whether it is above what would be found where nothing can have leaked, by its whole interval.
    """

    level: Leaked
    result: InversionResult
    measure: Measure
    shown: bool

    @property
    def label(self) -> str:
        """The attack and what it was asked."""
        return ", ".join(part for part in (self.result.name, self.result.variant) if part)


def strongest_inversions(subject: Subject) -> list[Strongest]:
    """For each level the attack whose measure differs most clearly from its control; levels without one left out."""
    found = [_strongest(subject, level) for level in LEVELS]
    return [one for one in found if one is not None]


def _strongest(subject: Subject, level: Leaked) -> Strongest | None:
    """The one whose difference is the most half-widths of its interval above 0: measures have units of their own."""
    rows: list[tuple[InversionResult, Measure]] = []
    for result in subject.inversions:
        both = inversion_headline(result)
        measure = both.class_level if level == "class" else both.record_level
        rows += [] if measure is None else [(result, measure)]
    if not rows:
        return None
    result, measure = max(rows, key=lambda row: _clearness(row[1]))
    difference = measure.difference
    return Strongest(level, result, measure, difference is not None and (difference.low or 0.0) > 0)


def _clearness(measure: Measure) -> float:
    found = measure.difference
    if found is None or found.value is None or found.low is None or found.high is None:
        return -np.inf
    return found.value / max((found.high - found.low) / 2, 1e-12)


def notices(
    attacks: Sequence[InversionAttack[Any]], results: Sequence[InversionResult], population: Population
) -> list[Notice]:
    """What the reader must know before the numbers."""
    games = {one.game for one in results}
    found = [TWO_LEVELS, EVALUATED] if "class" in games else []
    if "class" in games and unit_is_class(population):
        found.insert(0, UNIT_IS_CLASS)
    rebuilt = [f"{attack.method}: {attack.reconstruction}" for attack in attacks if attack.reconstruction]
    if rebuilt:
        text = "Reconstructions of published attacks, not the published attacks themselves: " + "; ".join(rebuilt)
        found.append(Notice(severity="theoretical", text=text))
    return found


def left_untested(subjects: Sequence[Subject]) -> str:
    """What of inversion no attack that ran has tested; "" for nothing."""
    games = {result.game for subject in subjects for result in subject.inversions}
    inverted, attribute = bool(games & {"class", "gradient", "label"}), "attribute" in games
    if inverted and attribute:
        return ""
    if inverted:
        return ATTRIBUTE_UNTESTED
    return INVERSION_UNTESTED if attribute else BOTH_UNTESTED
