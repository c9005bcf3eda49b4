"""A configured run with its data and the folder of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sfumato.audit.compare import jobs_for
from sfumato.audit.queries import queries_for
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.execution.events import OnEvent, silent
from sfumato.execution.executors.base import Executor
from sfumato.execution.executors.inline import Inline
from sfumato.execution.jobs import JobResult, TrainJob
from sfumato.execution.run import Execution, execute
from sfumato.execution.store import Store
from sfumato.targets.queries import QuerySet
from sfumato.training.recipe import AnyRecipe

FEWEST = 4  # models of a contender below which it is not shown


@dataclass(frozen=True, eq=False)
class Bench:
    """What is compared, on what, and where the models are."""

    population: Population
    recipes: Sequence[AnyRecipe]
    settings: AuditSettings
    store: Store

    def with_models(self, models: int) -> Bench:
        """The same with another number of models of each contender; those of fewer models are among those of more."""
        return replace(self, settings=replace(self.settings, models=models))

    def jobs(self, recipe: AnyRecipe) -> list[TrainJob]:
        """The models of one contender."""
        membership = self.settings.membership(self.population)
        return jobs_for(self.population, [recipe], membership, self.settings)[0]

    def queries(self, recipe: AnyRecipe) -> tuple[QuerySet, ...]:
        """What its models are asked, as `compare` asks them: those that answer at random in more ways."""
        return tuple(queries_for(recipe, self.population, self.settings))

    def executed(
        self, recipe: AnyRecipe, how: Executor, budget_seconds: float | None = None, on_event: OnEvent = silent
    ) -> Execution:
        """Its models: stored ones are reused, others trained while the budget lasts."""
        return execute(
            self.jobs(recipe),
            self.store,
            executor=how,
            queries=self.queries(recipe),
            on_event=on_event,
            budget_seconds=budget_seconds,
        )

    def results(self, recipe: AnyRecipe) -> tuple[JobResult, ...]:
        """The stored results of one contender; nothing is trained.

        Raises:
            SystemExit: if some are missing.
        """
        done = self.executed(recipe, Inline(threads=1), budget_seconds=0.0)
        if not done.complete:
            raise SystemExit(
                f"Expected {self.settings.models} models of {recipe.name}, {len(done.missing)} are missing."
            )
        return done.results

    def ready(self, recipe: AnyRecipe) -> int:
        """How many of its models are there with all their answers, from the first one on without a gap."""
        queries = self.queries(recipe)
        for count, job in enumerate(self.jobs(recipe)):
            if self.store.state_of(job, queries) != "ready":
                return count
        return self.settings.models


class Common(NamedTuple):
    """The contenders that can be shown, with as many models of each, and how many the others have."""

    bench: Bench
    short: dict[str, int]


def common_models(bench: Bench) -> Common:
    """The largest even number of models that every contender with enough of them has.

    Raises:
        SystemExit: if no contender has enough.
    """
    ready = {recipe.name: bench.ready(recipe) // 2 * 2 for recipe in bench.recipes}
    there = [recipe for recipe in bench.recipes if ready[recipe.name] >= FEWEST]
    if not there:
        raise SystemExit(f"Expected at least {FEWEST} models of some contender, got {max(ready.values(), default=0)}.")
    models = min(ready[recipe.name] for recipe in there)
    short = {name: count for name, count in ready.items() if count < FEWEST}
    return Common(replace(bench.with_models(models), recipes=there), short)
