"""One subject of an audit: every attack tried on its game, and what the record says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.audit.defences import needs_of
from sfumato.audit.findings import groups, judge
from sfumato.audit.game import FitRunner, Game, Played, play, why_not
from sfumato.audit.kinds import by_kind
from sfumato.audit.queries import ALWAYS_THE_SAME, Studied, study
from sfumato.audit.record import AttackResult, DefenceSummary, GroupResult, NotRun
from sfumato.audit.settings import AuditSettings
from sfumato.audit.verdict import strongest
from sfumato.canonical import plain
from sfumato.data.canaries import GROUP
from sfumato.data.population import Population
from sfumato.errors import NotApplicable
from sfumato.training.composition import guarded
from sfumato.training.defence import Defence, chain
from sfumato.training.recipe import AnyRecipe
from sfumato.types import Rows, Strings

SEVERAL = "(several)"


@dataclass(frozen=True, eq=False)
class Attacked:
    """What came of trying every attack on one game.

    Args:
        played: attack name -> its scores, for the attacks that could run.
        results: their findings, for the record.
        refused: attacks that could not run, with the reasons.
        best: name of the strongest, "" where none could run.
        arrays: for the npz file.
    """

    played: dict[str, Played]
    results: list[AttackResult]
    refused: list[NotRun]
    best: str
    arrays: dict[str, np.ndarray]

    def groups(self, game: Game, columns: Mapping[str, Strings], settings: AuditSettings) -> list[GroupResult]:
        """The strongest attack by group of units, and for each kind of canary its own; empty where none ran."""
        if not self.best:
            return []
        others = {name: values for name, values in columns.items() if name != GROUP}
        found = groups(game, self.played[self.best], others, settings) if others else []
        if GROUP not in columns:
            return found
        return [*by_kind(game, list(self.played.values()), columns[GROUP], settings), *found]


def attack_all(game: Game, settings: AuditSettings, run_fit: FitRunner) -> Attacked:
    """Run every attack that can run, and keep the reasons of those that cannot."""
    played, reasons = [], {attack.name: list(why_not(game, attack)) for attack in settings.attacks}
    for attack in settings.attacks:
        if reasons[attack.name]:
            continue
        try:
            played.append(play(game, attack, settings.seed, run_fit))
        except NotApplicable as error:
            reasons[attack.name].append(str(error))
    return judged(game, played, reasons, settings)


def asked_often(
    recipe: AnyRecipe, game: Game, tried: Attacked, population: Population, settings: AuditSettings, run_fit: FitRunner
) -> Studied:
    """A subject that answers at random, asked in every way; kinds of canaries are judged by themselves, too."""
    if not recipe.answers_at_random(population):
        return ALWAYS_THE_SAME
    kinds = {name: values for name, values in population.groups.items() if name == GROUP}
    return study(game, tried.played, group_of_each_unit(kinds, population.unit_of), settings, run_fit)


def judged(
    game: Game, played: Sequence[Played], reasons: Mapping[str, Sequence[str]], settings: AuditSettings
) -> Attacked:
    """Statistics of attacks that were played; `reasons` name -> why an attack was not (empty where it was)."""
    found = [judge(game, one, settings) for one in played]
    results = [one.result for one in found]
    return Attacked(
        played={one.attack.name: one for one in played},
        results=results,
        refused=[NotRun(attack=name, reasons=list(why)) for name, why in reasons.items() if why],
        best=strongest(results),
        arrays={name: value for one in found for name, value in one.arrays.items()},
    )


def defence_summary(defence: Defence) -> DefenceSummary:
    """Name, family and settings of a defence, and what stands out in any part of the chain."""
    parts = chain(defence)
    return DefenceSummary(
        name=defence.name,
        family=defence.family,
        reference=defence.reference,
        summary=defence.summary,
        settings={name: value for name, value in plain(defence).items() if name != "class"},
        reconstruction=" ".join(part.reconstruction for part in parts if part.reconstruction),
        needs=[need for part in parts for need in needs_of(part)],
        guard=bool(guarded(defence)),
        couples=" ".join(part.couples for part in parts if part.couples),
        trainings=math.prod(part.trainings for part in parts),
    )


def group_of_each_unit(columns: Mapping[str, np.ndarray], unit_of: Rows) -> dict[str, Strings]:
    """Columns by record [n] to columns by unit [units]; a unit whose records differ is in the group `SEVERAL`."""
    first = np.unique(unit_of, return_index=True)[1]
    found = {}
    for name, values in columns.items():
        text = np.asarray(values).astype(str)
        differs = np.bincount(unit_of, text != text[first][unit_of]) > 0
        found[name] = np.where(differs, SEVERAL, text[first])
    return found
