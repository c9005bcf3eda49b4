"""What a run will cost, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sfumato.audit.beforehand import refuse_untrainable
from sfumato.audit.compare import jobs_for
from sfumato.audit.game import fits_needed
from sfumato.audit.inversion.foreseeing import foresee_recipes
from sfumato.audit.inversion.planning import planned_inversion
from sfumato.audit.inversion.study import check
from sfumato.audit.probing.first import is_open
from sfumato.audit.queries import asked_of_each, queries_for
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.errors import StoreMismatch
from sfumato.execution.cost import CostEstimate, estimate
from sfumato.execution.events import Event, Notice
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import State, Store
from sfumato.targets.queries import BASE, QuerySet
from sfumato.training.recipe import AnyRecipe

STUDY = "asking again where answers are random"


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    Args:
        cost: of training and querying the models.
        fits: models that attacks train for themselves, over all recipes and targets.
        retraining: attack -> how many stored models it would have trained again, because their weights are gone;
            `STUDY` for what models that answer at random are asked besides.
        models: in all, over the recipes.
        asked: recipe that answers at random -> most queries for each record in the game, to each model.
        inversions: inversion attack -> questions (classes, steps, records) that are still to be answered.
        inversion_fits: models that these train for themselves, what several share counted once.
        refused: why some inversions will not run.
    """

    cost: CostEstimate
    fits: int
    retraining: dict[str, int]
    models: int
    asked: dict[str, int] = field(default_factory=dict)
    inversions: dict[str, int] = field(default_factory=dict)
    inversion_fits: int = 0
    refused: tuple[str, ...] = ()


def plan(
    population: Population,
    recipes: Sequence[AnyRecipe],
    settings: AuditSettings,
    store: Store,
    public: Population | None = None,
) -> Plan:
    """Count what is there and what is missing, and measure what a missing model costs.

    Raises:
        UsageError: for settings that the run would refuse.
    """
    refuse_untrainable([recipe for recipe in recipes if not is_open(recipe)], population)
    membership = settings.membership(population)
    check(population, public, recipes, membership, settings)
    by_recipe = jobs_for(population, recipes, membership, settings)
    told: list[Event] = []
    foresee_recipes(population, public, recipes, by_recipe, membership, settings, store, told.append)
    jobs = [job for group in by_recipe for job in group]
    stored = [job for job in jobs if _state(store, job) == "ready"]
    parts: dict[tuple[QuerySet, ...], list[TrainJob]] = {}
    for recipe, mine in zip(recipes, by_recipe, strict=True):
        parts.setdefault(queries_for(recipe, population, settings), []).extend(mine)
    known = {job.key for job in stored}
    again = [job for asked, mine in parts.items() for job in mine if _lost(store, job, asked, settings, known)]
    retraining = {
        attack.name: sum(_state(store, job, attack.query_set) == "needs training" for job in stored)
        for attack in settings.attacks
        if attack.query_set != BASE
    }
    retraining[STUDY] = len(again)
    inverted = planned_inversion(population, public, recipes, by_recipe, membership, settings, store)
    return Plan(
        cost=_together([estimate(mine, store, queries=asked) for asked, mine in parts.items()]),
        fits=fits_needed(settings.attacks, membership.models) * len(recipes),
        retraining={name: count for name, count in retraining.items() if count},
        models=len(jobs),
        asked={
            recipe.name: asked_of_each(recipe, population, settings)
            for recipe in recipes
            if recipe.answers_at_random(population)
        },
        inversions=inverted.questions,
        inversion_fits=inverted.fits,
        refused=tuple(event.text for event in told if isinstance(event, Notice)),
    )


def _lost(store: Store, job: TrainJob, asked: tuple[QuerySet, ...], settings: AuditSettings, known: set[str]) -> bool:
    """Whether a stored model would be trained again for the study of random answers alone."""
    more = [queries for queries in asked if queries not in settings.queries]
    return bool(more) and job.key in known and _state(store, job, *more) == "needs training"


def _together(parts: Sequence[CostEstimate]) -> CostEstimate:
    """Costs add up; a time that is not known in one part is not known."""
    low, high = [part.seconds_low for part in parts], [part.seconds_high for part in parts]
    return CostEstimate(
        models_to_train=sum(part.models_to_train for part in parts),
        models_ready=sum(part.models_ready for part in parts),
        requeries=sum(part.requeries for part in parts),
        forward_passes=sum(part.forward_passes for part in parts),
        seconds_low=None if None in low else sum(one for one in low if one is not None),
        seconds_high=None if None in high else sum(one for one in high if one is not None),
        bytes=sum(part.bytes for part in parts),
        unknown=tuple(name for part in parts for name in part.unknown),
    )


def _state(store: Store, job: TrainJob, *queries: QuerySet) -> State:
    """A damaged entry will be made again."""
    try:
        return store.state_of(job, queries)
    except StoreMismatch:
        return "needs training"
