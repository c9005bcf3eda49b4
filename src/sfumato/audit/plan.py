"""What a run will cost, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.audit.compare import jobs_for
from sfumato.audit.game import fits_needed
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.errors import StoreMismatch
from sfumato.execution.cost import CostEstimate, estimate
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import State, Store
from sfumato.targets.queries import BASE, QuerySet
from sfumato.training.recipe import AnyRecipe


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    Args:
        cost: of training and querying the models.
        fits: models that attacks train for themselves, over all recipes and targets.
        retraining: attack -> how many stored models it would have trained again, because their weights are gone.
        models: in all, over the recipes.
    """

    cost: CostEstimate
    fits: int
    retraining: dict[str, int]
    models: int


def plan(population: Population, recipes: Sequence[AnyRecipe], settings: AuditSettings, store: Store) -> Plan:
    """Count what is there and what is missing, and measure what a missing model costs."""
    membership = settings.membership(population)
    jobs = [job for group in jobs_for(population, recipes, membership, settings) for job in group]
    stored = [job for job in jobs if _state(store, job) == "ready"]
    retraining = {
        attack.name: sum(_state(store, job, attack.query_set) == "needs training" for job in stored)
        for attack in settings.attacks
        if attack.query_set != BASE
    }
    return Plan(
        cost=estimate(jobs, store, queries=settings.queries),
        fits=fits_needed(settings.attacks, membership.models) * len(recipes),
        retraining={name: count for name, count in retraining.items() if count},
        models=len(jobs),
    )


def _state(store: Store, job: TrainJob, *queries: QuerySet) -> State:
    """A damaged entry will be made again."""
    try:
        return store.state_of(job, queries)
    except StoreMismatch:
        return "needs training"
