"""Carrying out the jobs of several recipes, each asked what it has to be asked, and reading the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from sfumato.audit.game import FitRunner
from sfumato.audit.record import Notice
from sfumato.data.population import Population
from sfumato.errors import SfumatoError
from sfumato.execution.events import Ended, Event, OnEvent, silent
from sfumato.execution.executors.base import Executor
from sfumato.execution.jobs import JobResult, TrainJob
from sfumato.execution.run import Execution, execute, run_fit
from sfumato.execution.store import Store
from sfumato.targets.answers import Answers
from sfumato.targets.queries import QuerySet


class CarriedOut(NamedTuple):
    """The results of each recipe's jobs, and what the executions together have to say."""

    results: list[list[JobResult]]
    done: Execution


class Asked(NamedTuple):
    """The jobs of one recipe, and the query sets that its models are asked besides the base query."""

    jobs: list[TrainJob]
    queries: tuple[QuerySet, ...]


def carried_out(
    recipes: Sequence[Asked], store: Store, executor: str | Executor, on_event: OnEvent | None
) -> CarriedOut:
    """All jobs of all recipes; recipes that are asked alike are executed together.

    Raises:
        SfumatoError: if a model is missing: statistics on a part of the models would not be those of the design.
    """
    parts: dict[tuple[QuerySet, ...], list[int]] = {}
    for position, recipe in enumerate(recipes):
        parts.setdefault(recipe.queries, []).append(position)
    found: dict[int, list[JobResult]] = {}
    executions = []
    for number, (queries, members) in enumerate(parts.items(), 1):
        jobs = list(chain.from_iterable(recipes[i].jobs for i in members))
        tell = _until_last(on_event or silent, number == len(parts))
        executions.append(executed(jobs, queries, store, executor, tell))
        rest = iter(executions[-1].results)
        found |= {i: [next(rest) for _ in recipes[i].jobs] for i in members}
    return CarriedOut([found[i] for i in range(len(recipes))], _together(executions))


def executed(
    jobs: Sequence[TrainJob], queries: Sequence[QuerySet], store: Store, executor: str | Executor, on_event: OnEvent
) -> Execution:
    """All jobs carried out, or an error."""
    done = execute(jobs, store, executor=executor, queries=queries, on_event=on_event)
    if not done.complete:
        raise SfumatoError(
            f"Expected results of {len(jobs)} models, got {len(done.results)}.", remedy="Run again; finished ones stay."
        )
    return done


def said(done: Execution) -> list[Notice]:
    """What the execution has to say, in the record's form."""
    return [Notice.model_validate({"severity": n.severity, "text": n.text, "remedy": n.remedy}) for n in done.notices]


def gather(results: Sequence[JobResult], population: Population) -> Answers:
    """The answers of several models as one value."""
    keys = results[0].scalars.keys()
    scalars = {
        key: {name: np.stack([r.scalars[key][name] for r in results]) for name in results[0].scalars[key]}
        for key in keys
    }
    answers = Answers(population.label_array, np.stack([r.logits for r in results]), scalars)
    return answers.with_base_statistics()  # read for every target and attack, so computed once


def fit_runner(store: Store) -> FitRunner:
    """Runs what an attack must train, through the store, so that a second audit and a resumed one find it there."""
    return lambda fit: run_fit(fit, store)


def _until_last(on_event: OnEvent, last: bool) -> OnEvent:
    """All events, but one end: that of the last execution."""

    def tell(event: Event) -> None:
        if last or not (isinstance(event, Ended) and not event.missing):
            on_event(event)

    return tell


def _together(executions: Sequence[Execution]) -> Execution:
    """One value for several executions; results stand in their order."""
    first = executions[0]
    return replace(
        first,
        results=tuple(chain.from_iterable(one.results for one in executions)),
        positions=np.arange(sum(len(one.results) for one in executions), dtype=np.int64),
        trained=sum(one.trained for one in executions),
        reused=sum(one.reused for one in executions),
        requeried=sum(one.requeried for one in executions),
        executor="; ".join(dict.fromkeys(one.executor for one in executions)),
        notices=tuple(dict.fromkeys(chain.from_iterable(one.notices for one in executions))),
        seconds=sum(one.seconds for one in executions),
    )
