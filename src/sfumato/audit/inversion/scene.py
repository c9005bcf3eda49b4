"""One subject set up for inversion: its models, who was in them and what is public; and an attack put to all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.attacks.inversion.base import InversionAttack, Reconstructions
from sfumato.attacks.inversion.evidence import GradientEvidence
from sfumato.audit.game import FitRunner
from sfumato.audit.inversion.bounds import bounds_for
from sfumato.audit.inversion.caching import AnyEvidence, Found, Reconstruction, reconstructed
from sfumato.audit.inversion.gallery import GalleryRow
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.inversion.targets import Say, Target
from sfumato.audit.inverted import Game, InversionResult, Measure, ReconstructionBound
from sfumato.audit.record import NotRun
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.errors import SfumatoError
from sfumato.execution.events import LINE_EVERY, sparingly
from sfumato.seeding import derive
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import image_box
from sfumato.targets.surroundings import box_of
from sfumato.training.recipe import AnyRecipe
from sfumato.types import Bools, Floats


class KnownBox(NamedTuple):
    """The range of values that the attacker takes for granted, and where that knowledge comes from ("" if obvious)."""

    box: Box
    known_from: str


@dataclass(frozen=True, eq=False)
class Scene:
    """One subject, as all attacks on it find it.

    Args:
        subject: its name.
        recipe: how its models were trained.
        targets: the models that are attacked.
        population: the records.
        trained: bool [targets, n], those each target was trained on.
        in_game: bool [n], those that could have been trained on or not.
        set_aside: bool [n], known non-members, which no model was trained on.
        public: records of others that the attacker has, or None.
        known: the range of values.
        guarantee: of one of its models.
        settings: of the audit.
        run_fit: runs what is to be stored.
        say: is told how far it has come.
    """

    subject: str
    recipe: AnyRecipe
    targets: tuple[Target, ...]
    population: Population
    trained: Bools
    in_game: Bools
    set_aside: Bools
    public: Population | None
    known: KnownBox
    guarantee: Guarantee | NoGuarantee
    settings: AuditSettings
    run_fit: FitRunner
    say: Say

    @property
    def inversion(self) -> InversionSettings:
        """What is inverted and how."""
        if self.settings.inversion is None:
            raise SfumatoError("Expected settings of inversion, got none.")
        return self.settings.inversion

    def bounds(
        self, game: Game, prior: float | None, measured: str, level: str = "record"
    ) -> list[ReconstructionBound]:
        """What the guarantee permits beside a measure; nothing where the prior could not be measured, or is 0."""
        if not prior or not 0 < prior <= 1:
            return []
        return bounds_for(game, self.guarantee, self.population, prior, measured, level)

    def seed(self, attack: InversionAttack[Any], target: int, *names: str | int) -> int:
        """Root of an attack's random streams on one model."""
        return derive(self.settings.seed, "inversion", attack.method, target, *names)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one attack on one subject: results, or the reasons why there are none."""

    results: list[InversionResult] = field(default_factory=list)
    refused: NotRun | None = None
    rows: list[GalleryRow] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Answered:
    """An attack put to every target.

    Attributes:
        guesses: one for each target.
        seconds: over all targets.
        fit_seconds: over all targets; what they share counts for each of them.
    """

    guesses: tuple[Reconstructions, ...]
    seconds: float
    fit_seconds: float

    @property
    def records(self) -> Floats:
        """float32 [targets, q, k, *shape]."""
        return np.stack([one.records for one in self.guesses])

    @property
    def questions(self) -> int:
        """Over all targets."""
        return sum(len(one.records) for one in self.guesses)


def answered(
    scene: Scene, attack: InversionAttack[Any], evidence: Sequence[AnyEvidence], what: str
) -> Answered | NotRun:
    """Put an attack to every target, each with its own evidence; the reasons where it cannot run.

    Args:
        scene: the subject.
        attack: what is tried.
        evidence: one for each target, in order; oracles need only be named.
        what: is asked, for progress lines; "" for nothing to say.
    """
    found: list[Found] = []
    asked = f" ({what})" if what else ""
    for number, (one, target) in enumerate(zip(evidence, scene.targets, strict=True)):
        scene.say(f"Inversion: {attack.method} on {scene.subject}{asked}, model {number + 1} of {len(evidence)}.")
        load = None if isinstance(one, GradientEvidence) else partial(target.oracle, scene.known.box)
        told = replace(one, tell=sparingly(scene.say, LINE_EVERY))
        found.append(reconstructed(Reconstruction(attack, told, load, scene.run_fit)))
        if found[-1].guesses is None:
            return NotRun(attack=attack.method, reasons=list(found[-1].refused))
    guesses = tuple(one.guesses for one in found if one.guesses is not None)
    return Answered(guesses, sum(one.seconds for one in found), sum(one.fit_seconds for one in found))


def result_of(
    scene: Scene,
    attack: InversionAttack[Any],
    done: Answered,
    measures: Sequence[Measure],
    *,
    variant: str = "",
    knowledge: Sequence[str] = (),
    bounds: Sequence[ReconstructionBound] = (),
    note: str = "",
) -> InversionResult:
    """The record's form of what an attack found."""
    facts = "; ".join(f"{name} {value:.3g}" for name, value in _mean_facts(done).items())
    given = [attack.threat_model.knowledge, scene.known.known_from, *knowledge]
    return InversionResult(
        name=attack.method,
        game=cast(Game, attack.game),
        variant=variant,
        access=attack.threat_model.access,
        knowledge=" ".join(part for part in given if part),
        reconstruction=attack.reconstruction,
        measures=list(measures),
        bounds=list(bounds),
        targets=len(done.guesses),
        questions=done.questions,
        guesses=done.guesses[0].records.shape[1],
        queries=sum(one.queries for one in done.guesses) / done.questions,
        seconds=done.seconds / done.questions,
        fit_seconds=done.fit_seconds / len(done.guesses),
        note=" ".join(part for part in (note, f"Of the attack itself: {facts}." if facts else "") if part),
    )


def known_box(population: Population, public: Population | None) -> KnownBox:
    """Pixels from 0 to 1; for a table the range of each column, in the public records where there are any."""
    if len(population.records.shape) == 3:
        return KnownBox(image_box(population.records.shape), "")
    if public is not None:
        return KnownBox(box_of(public), "The range of each column was taken from the public records.")
    text = "The range of each column was taken from all records of the data: more than an attacker may know."
    return KnownBox(box_of(population), text)


def _mean_facts(done: Answered) -> dict[str, float]:
    names = [name for name in done.guesses[0].facts if all(name in one.facts for one in done.guesses)]
    return {name: float(np.mean([one.facts[name] for one in done.guesses])) for name in names}
