"""Inversion of several subjects: every attack on every one of them, judged by one evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from sfumato.accounting.guarantee import Guarantee, NoGuarantee, guarantee
from sfumato.accounting.history import History
from sfumato.attacks.inversion.base import InversionAttack
from sfumato.audit.executing import fit_runner
from sfumato.audit.inversion.evaluator import evaluator_preset
from sfumato.audit.inversion.gallery import Gallery, GalleryRow
from sfumato.audit.inversion.judge import Judge, judge_for, of_the_judge
from sfumato.audit.inversion.overlap import overlap_notices
from sfumato.audit.inversion.play_attribute import play_attribute
from sfumato.audit.inversion.play_class import classes_asked, play_class
from sfumato.audit.inversion.play_gradient import play_gradient
from sfumato.audit.inversion.play_label import play_label
from sfumato.audit.inversion.scene import Outcome, Scene, known_box
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.inversion.targets import Target, of_job
from sfumato.audit.inversion.wording import notices
from sfumato.audit.inverted import InversionDesign, InversionResult
from sfumato.audit.record import Notice, NotRun, Subject
from sfumato.audit.settings import AuditSettings
from sfumato.data.classes import unit_is_class
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.execution.events import Attacking, OnEvent, silent
from sfumato.execution.executors.base import Executor
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Store
from sfumato.training.recipe import AnyRecipe
from sfumato.types import Bools

UNTRAINED = guarantee(History())


@dataclass(frozen=True, eq=False)
class Inverted:
    """What came of inversion.

    Attributes:
        results: subject -> what each attack found.
        refused: subject -> attacks that could not run, with the reasons.
        design: None where nothing was inverted.
        notices: for the record.
        gallery: pictures for a local file, where they were asked for.
    """

    results: dict[str, list[InversionResult]] = field(default_factory=dict)
    refused: dict[str, list[NotRun]] = field(default_factory=dict)
    design: InversionDesign | None = None
    notices: list[Notice] = field(default_factory=list)
    gallery: Gallery | None = None

    def filled(self, subject: Subject) -> Subject:
        """The subject with what was found on it."""
        if subject.name not in self.results:
            return subject
        more = {
            "inversions": self.results[subject.name],
            "not_run": [*subject.not_run, *self.refused[subject.name]],
        }
        return subject.model_copy(update=more)


@dataclass(frozen=True, eq=False)
class Workplace:
    """Where models and results are kept, how they are made, and what holds for one model of each recipe."""

    store: Store
    executor: str | Executor = "auto"
    on_event: OnEvent = silent
    guarantees: Sequence[Guarantee | NoGuarantee] = ()


@dataclass(frozen=True, eq=False)
class Suspect:
    """A subject to invert.

    Args:
        name: of the subject.
        recipe: how its models were trained.
        targets: the models.
        trained: bool [targets, n], the records that each was trained on.
        guarantee: of one of the models.
    """

    name: str
    recipe: AnyRecipe
    targets: tuple[Target, ...]
    trained: Bools
    guarantee: Guarantee | NoGuarantee


def check(
    population: Population,
    public: Population | None,
    recipes: Sequence[AnyRecipe],
    membership: Membership,
    settings: AuditSettings,
) -> None:
    """Refuse what would fail after hours of training.

    Raises:
        UsageError: for more targets than models, public records of another shape, or no network that could judge.
    """
    if settings.inversion is None:
        return
    if any(attack.game == "class" for attack in settings.inversion.attacks):
        evaluator_preset(population, recipes, settings.inversion.evaluator)
    if settings.inversion.targets > membership.models:
        raise UsageError(
            f"Expected at most {membership.models} targets to invert, one for each model, got "
            f"{settings.inversion.targets}.",
            remedy="Lower inversion.targets, or train more models.",
        )
    if public is not None and public.records.shape != population.records.shape:
        raise UsageError(
            f"Expected public records of the shape {population.records.shape} of the private ones, got "
            f"{public.records.shape}.",
            remedy="Name public records of the same kind, or public classes of the same data.",
        )


def suspects(
    recipes: Sequence[AnyRecipe],
    jobs: Sequence[Sequence[TrainJob]],
    population: Population,
    membership: Membership,
    settings: InversionSettings,
    store: Store,
    say: Callable[[str], None],
    guarantees: Sequence[Guarantee | NoGuarantee] = (),
) -> list[Suspect]:
    """The first models of each recipe, in complementary pairs; without guarantees before anything is trained."""
    trained, formal = membership.of_records(population)[: settings.targets], guarantees or [UNTRAINED] * len(recipes)
    targets = [tuple(of_job(job, store, say) for job in mine[: settings.targets]) for mine in jobs]
    return [
        Suspect(recipe.name, recipe, its, trained, one)
        for recipe, its, one in zip(recipes, targets, formal, strict=True)
    ]


def invert_recipes(
    population: Population,
    public: Population | None,
    recipes: Sequence[AnyRecipe],
    jobs: Sequence[Sequence[TrainJob]],
    membership: Membership,
    settings: AuditSettings,
    place: Workplace,
) -> Inverted:
    """Invert models of every recipe; nothing where the settings ask for no inversion.

    Args:
        population: the records.
        public: records of others, or None.
        recipes: what was trained.
        jobs: of each recipe; they have been carried out.
        membership: who was in which training set.
        settings: of the audit.
        place: see `Workplace`; with a guarantee for each recipe.
    """
    if settings.inversion is None:
        return Inverted()
    said: list[str] = []
    found = suspects(
        recipes, jobs, population, membership, settings.inversion, place.store, said.append, place.guarantees
    )
    done = invert(population, public, found, membership, settings, place)
    return replace(done, notices=[*done.notices, *(Notice(severity="negligible", text=text) for text in said)])


def invert(
    population: Population,
    public: Population | None,
    found: Sequence[Suspect],
    membership: Membership,
    settings: AuditSettings,
    place: Workplace,
) -> Inverted:
    """Put every attack to every subject. Arguments as for `invert_recipes`."""
    inversion = settings.inversion
    if inversion is None:
        return Inverted()

    @cache
    def judge() -> Judge:
        recipes, tell = [one.recipe for one in found], of_the_judge(place.on_event)
        return judge_for(population, recipes, settings, place.store, executor=place.executor, on_event=tell)

    results: dict[str, list[InversionResult]] = {}
    refused: dict[str, list[NotRun]] = {}
    rows: list[GalleryRow] = []
    for scene in (scene_of(one, population, public, membership, settings, place) for one in found):
        outcomes = [play(scene, attack, judge) for attack in inversion.attacks]
        results[scene.subject] = [result for one in outcomes for result in one.results]
        refused[scene.subject] = [one.refused for one in outcomes if one.refused is not None]
        rows += [row for one in outcomes for row in one.rows]
    every = [result for several in results.values() for result in several]
    judged = judge() if any(result.game == "class" for result in every) else None
    own = (
        []
        if judged is None
        else [
            Notice.model_validate({"severity": n.severity, "text": n.text, "remedy": n.remedy}) for n in judged.notices
        ]
    )
    design = _design(population, public, found, inversion, settings.seed)
    return Inverted(
        results,
        refused,
        design.model_copy(update={"evaluator": None if judged is None else judged.summary}),
        [*own, *overlap_notices(population, public), *notices(inversion.attacks, every, population)],
        Gallery(rows) if inversion.gallery else None,
    )


def play(scene: Scene, attack: InversionAttack[Any], judge: Callable[[], Judge]) -> Outcome:
    """One attack on one subject, in the game that is its own."""
    if attack.game == "class":
        return play_class(scene, attack, judge)
    return {"gradient": play_gradient, "attribute": play_attribute, "label": play_label}[attack.game](scene, attack)


def scene_of(
    one: Suspect,
    population: Population,
    public: Population | None,
    membership: Membership,
    settings: AuditSettings,
    place: Workplace,
) -> Scene:
    """A subject set up. Arguments as for `invert_recipes`."""
    return Scene(
        subject=one.name,
        recipe=one.recipe,
        targets=one.targets,
        population=population,
        trained=one.trained,
        in_game=population.rows_of(membership.in_game),
        set_aside=population.rows_of(membership.public),
        public=public,
        known=known_box(population, public),
        guarantee=one.guarantee,
        settings=settings,
        run_fit=fit_runner(place.store),
        say=lambda text: place.on_event(Attacking(text)),
    )


def _design(
    population: Population, public: Population | None, found: Sequence[Suspect], settings: InversionSettings, seed: int
) -> InversionDesign:
    asked = classes_asked(population, found[0].trained, settings.classes, seed)
    return InversionDesign(
        public=told(public, settings),
        public_records=0 if public is None else len(public),
        classes=len(np.unique(population.label_array)),
        inverted=len(np.unique(asked)) if any(attack.game == "class" for attack in settings.attacks) else 0,
        unit=population.unit.name,
        unit_is_class=unit_is_class(population),
        gallery=settings.gallery,
    )


def told(public: Population | None, settings: InversionSettings) -> str:
    """What the public records are, in words; "" for none."""
    if public is None:
        return ""
    if settings.public_classes:
        return f"classes {', '.join(settings.public_classes)} of the data, which no model is trained on"
    return settings.public or public.name
