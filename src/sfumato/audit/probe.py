"""The probe: train, transplant, rewind and freeze regions of a network, and see what each of them carries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.audit.citations import citations
from sfumato.audit.compare import jobs_for, summary_of
from sfumato.audit.executing import Asked, carried_out, fit_runner, gather, said
from sfumato.audit.probing.measures import Measured, measured
from sfumato.audit.probing.risk_map import Effect, MappedRegion, RiskMap, Whole, ranked
from sfumato.audit.probing.settings import ProbeSettings
from sfumato.audit.probing.variants import Variant, Variants, variants_of
from sfumato.audit.provenance import provenance
from sfumato.audit.record import Notice
from sfumato.audit.subject import defence_summary
from sfumato.canonical import plain
from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.execution.cost import CostEstimate, estimate
from sfumato.execution.events import OnEvent
from sfumato.execution.executors.base import Executor
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Store
from sfumato.models.regions import Region, front
from sfumato.training.composition import guarded
from sfumato.training.defence import Defence, configured
from sfumato.training.preparation import assemble
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task

ENOUGH = 16  # models from which on no notice says that there are few


@dataclass(frozen=True, eq=False)
class _Probe:
    """A probe that is set up."""

    population: Population
    settings: ProbeSettings
    membership: Membership
    variants: Variants

    @property
    def jobs(self) -> list[list[TrainJob]]:
        """One list for each recipe; model m has the same training set and seed in each."""
        return jobs_for(self.population, self.variants.recipes, self.membership, self.settings.audit)


def probe(
    population: Population,
    task: Task,
    defence: Defence,
    settings: ProbeSettings,
    store: Store,
    *,
    executor: str | Executor = "auto",
    on_event: OnEvent | None = None,
    command: str = "",
    title: str = "",
) -> RiskMap:
    """Train both networks and every variant, attack them all, and write down what each region carries.

    Args:
        population: labelled records; those of a probe should have no part in what is compared afterwards.
        task: what is learned.
        defence: gives the other network, and the objective that regions are tuned with.
        settings: see `ProbeSettings`.
        store: where models and answers are kept; what is there already is reused.
        executor: "auto", the name of an executor, or one.
        on_event: receives progress events.
        command: for the map, what repeats the run.
        title: of the map.
    """
    start = time.perf_counter()
    ready = _set_up(population, task, defence, settings, store)
    results, done = carried_out([Asked(jobs, ()) for jobs in ready.jobs], store, executor, on_event)
    runner = fit_runner(store)
    found = [
        measured(gather(rows, population), population, ready.membership, task.model, settings, runner)
        for rows in results
    ]
    whole, defended, *treated = found
    regions = _mapped(ready)
    effects = [_effect(variant, one, whole) for variant, one in zip(ready.variants.variants, treated, strict=True)]
    return RiskMap(
        title=title or f"{population.name}: what the regions of {task.model.name} carry",
        data=summary_of(population, ready.membership),
        network=task.model.name,
        models=settings.models,
        regions=regions,
        ordinary=_whole(ready.variants.ordinary, whole),
        defended=_whole(ready.variants.private, defended),
        effects=effects,
        ranking=ranked(regions, effects),
        not_run=list(ready.variants.refused),
        settings=plain(settings),
        task=plain(task),
        notices=[*said(done), *_notices(settings, defence)],
        citations=citations(settings.audit.attacks, [defence]),
        provenance=provenance(command, settings.seed, time.perf_counter() - start),
    )


def probe_cost(
    population: Population, task: Task, defence: Defence, settings: ProbeSettings, store: Store
) -> CostEstimate:
    """What a probe with these arguments would cost."""
    return estimate([job for jobs in probe_jobs(population, task, defence, settings, store) for job in jobs], store)


def probe_jobs(
    population: Population, task: Task, defence: Defence, settings: ProbeSettings, store: Store
) -> list[list[TrainJob]]:
    """The models of a probe with these arguments, one list for each variant; those that others start from first.

    With more models in the settings, the same ones come first in each list.
    """
    return _set_up(population, task, defence, settings, store).jobs


def _set_up(population: Population, task: Task, defence: Defence, settings: ProbeSettings, store: Store) -> _Probe:
    variants = variants_of(task, defence, population, settings, store)
    variants.private.check(population)
    return _Probe(population, settings, settings.audit.membership(population), variants)


def _mapped(ready: _Probe) -> list[MappedRegion]:
    recipe, data = ready.variants.ordinary, ready.population
    network = assemble(configured(recipe.defence, recipe.task), recipe.defence, data.records.shape, data.classes, 0)
    prefix = front(network)
    return [_plainly(region, prefix) for region in ready.variants.regions]


def _plainly(region: Region, prefix: str) -> MappedRegion:
    parameters = [name.removeprefix(prefix) for name in region.parameters]
    return MappedRegion(name=region.name, parameters=parameters, count=region.values)


def _effect(variant: Variant, found: Measured, whole: Measured) -> Effect:
    own, carried = found.own, found.carried(whole)
    return Effect(
        region=variant.region,
        operation=variant.operation,
        accuracy=own.accuracy,
        risk=own.risk,
        accuracy_carried=carried.accuracy,
        risk_carried=carried.risk,
    )


def _whole(recipe: Recipe, found: Measured) -> Whole:
    return Whole(
        name=recipe.name, defence=defence_summary(recipe.defence), accuracy=found.own.accuracy, risk=found.own.risk
    )


def _notices(settings: ProbeSettings, defence: Defence) -> Sequence[Notice]:
    found = []
    if guarded(defence):
        found.append(
            Notice(
                severity="theoretical",
                text="The network trained with the defence, and regions tuned with it, answer behind its guard; "
                "transplants answer without.",
                remedy="Compare transplants with the ordinarily trained network alone.",
            )
        )
    if settings.models < ENOUGH:
        found.append(
            Notice(
                severity="theoretical",
                text=f"Only {settings.models} models of each variant: LiRA is weaker than it can be.",
                remedy=f"Use {ENOUGH} models or more.",
            )
        )
    return found
