"""The membership game on many targets: each attack scores every record of every target, and units are judged.

The game is played per unit of privacy: scores of a unit's records are combined by the attack's named rule, and every
count downstream counts units.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sfumato.attacks.evidence import Evidence
from sfumato.attacks.fits import Fit
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.audit.statistics import combine
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import SfumatoError
from sfumato.models.base import ModelFamily
from sfumato.seeding import derive
from sfumato.targets.answers import Answers
from sfumato.types import Bools, Floats, Ints, Rows

FitRunner = Callable[[Fit], dict[str, Floats]]


@dataclass(frozen=True, eq=False)
class Case:
    """One target in the game.

    Args:
        target: its answers on all n records (models axis of length 1).
        members: bool [units], the truth.
        references: int64 [r], which of the game's reference models the attacker has against this target.
    """

    target: Answers
    members: Bools
    references: Ints


@dataclass(frozen=True, eq=False)
class Game:
    """Targets, references and what is known of the records.

    Args:
        labels: int64 [n].
        unit_of: int64 [n], position of each record's unit.
        in_game: bool [units].
        public: bool [units], known non-members.
        cases: the targets.
        references: answers of all reference models, or None.
        membership: bool [models, units] of the reference models, or None.
        population: the records, or None where only answers are known.
        model: the network family of the targets where it is known.
        kind: "table" or "image".
    """

    labels: Ints
    unit_of: Rows
    in_game: Bools
    public: Bools
    cases: tuple[Case, ...]
    references: Answers | None = None
    membership: Bools | None = None
    population: Population | None = None
    model: ModelFamily | None = None
    kind: str = "table"

    @property
    def members(self) -> Bools:
        """bool [targets, units]: the truth."""
        return np.stack([case.members for case in self.cases])

    @property
    def references_per_target(self) -> int:
        """How many references the attacker has against one target."""
        return min((len(case.references) for case in self.cases), default=0)

    def evidence(self, target: int, seed: int) -> Evidence:
        """Everything that could be known about one target; attacks get it restricted to their needs."""
        case = self.cases[target]
        known = self.references is not None and self.membership is not None and len(case.references) > 0
        return Evidence(
            labels=self.labels,
            target=case.target,
            game=self.in_game[self.unit_of],
            public=self.public[self.unit_of],
            references=self.references.pick(case.references) if known and self.references is not None else None,
            membership=self.membership[case.references][:, self.unit_of]
            if known and self.membership is not None
            else None,
            records=None if self.population is None else self.population.records,
            kind=self.kind,
            model=self.model,
            seed=derive(seed, "attack", target),
        )


@dataclass(frozen=True, eq=False)
class Played:
    """One attack on all targets of a game: `scores` is float64 [targets, units], NaN outside the game."""

    attack: MembershipAttack
    scores: Floats
    seconds: float


def siblings(population: Population, membership: Membership, answers: Answers, model: ModelFamily | None) -> Game:
    """Each model in turn as the target, the others (but its complementary partner) as references."""
    cases = tuple(
        Case(answers.pick(np.array([m])), membership.matrix[m], membership.references_for(m))
        for m in range(membership.models)
    )
    return Game(
        labels=population.label_array,
        unit_of=population.unit_of,
        in_game=membership.in_game,
        public=membership.public,
        cases=cases,
        references=answers,
        membership=membership.matrix,
        population=population,
        model=model,
        kind=population.kind,
    )


def why_not(game: Game, attack: MembershipAttack) -> tuple[str, ...]:
    """Reasons why the attack cannot run in this game; empty where it can."""
    return attack.applies_to(game.evidence(0, 0))


def play(game: Game, attack: MembershipAttack, seed: int, run_fit: FitRunner) -> Played:
    """Run one attack on every target.

    Raises:
        NotApplicable: if the attack finds on the way that it cannot run; the reason belongs into the record.
        SfumatoError: if a score in the game is not finite.
    """
    start = time.perf_counter()
    needs = attack.needs()
    rows = []
    for target in range(len(game.cases)):
        evidence = game.evidence(target, seed).restricted_to(needs)
        fitted = [run_fit(fit) for fit in attack.fits(evidence)]
        scores = np.asarray(attack.score(evidence, fitted), dtype=np.float64)
        if scores.shape != evidence.game.shape:
            raise SfumatoError(f"Expected one score per record from {attack.name}, got shape {scores.shape}.")
        rows.append(np.where(evidence.game, scores, 0.0))
    per_unit = combine(np.stack(rows), game.unit_of, attack.unit_rule)
    if not np.isfinite(per_unit[:, game.in_game]).all():
        raise SfumatoError(f"Expected finite scores from {attack.name}, got NaN or infinity for a unit in the game.")
    per_unit[:, ~game.in_game] = np.nan
    return Played(attack, per_unit, time.perf_counter() - start)


def fits_needed(attacks: Sequence[MembershipAttack], targets: int) -> int:
    """How many models the attacks themselves will train."""
    return sum(attack.needs().fits_per_target for attack in attacks) * targets
