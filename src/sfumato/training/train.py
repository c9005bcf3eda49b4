"""From a task, a defence and rows to trained models: which loop runs, and what is fitted after it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from sfumato.data.population import Population
from sfumato.private.plan import Plan
from sfumato.training.composition import course_of, fitted_guards, update_of
from sfumato.training.defence import Defence, configured, ordinarily
from sfumato.training.loop import Training
from sfumato.training.preparation import Assignment, LoopOptions, Prepared, prepare
from sfumato.training.private_loop import PrivateTraining, time_private_steps, train_privately
from sfumato.training.refusals import refuse_ledger
from sfumato.training.steps import StepTimes
from sfumato.training.task import Task
from sfumato.training.trained import Trained
from sfumato.training.workshop import Workshop


def train(
    task: Task, defence: Defence, population: Population, work: Sequence[Assignment], options: LoopOptions
) -> list[Trained]:
    """Train one model for each assignment, side by side.

    Args:
        task: before the defence has configured it.
        defence: its parts apply outermost first.
        population: all records.
        work: one entry per model; with several, all training sets must have one size after the validation split.
        options: see `LoopOptions`.

    Raises:
        UnsupportedModel: if several models cannot be stacked exactly; train them one by one then.
        SfumatoError: if the loss stops being finite.
    """
    beside, task = ordinarily(defence, task), configured(defence, task)
    plan = update_of(defence, population)
    if course_of(defence) is not None or fitted_guards(defence):
        if options.charge is not None:
            refuse_ledger([part for part in (course_of(defence), *fitted_guards(defence)) if part is not None])
        return [_in_workshop(prepare(task, defence, population, work, options, plan=plan), options, plan, beside)]
    if plan is not None:
        return train_privately(task, defence, plan, population, work, options)
    return Training(prepare(task, defence, population, work, options), options).finish()


def _in_workshop(run: Prepared, options: LoopOptions, plan: Plan | None, beside: Task) -> Trained:
    """One model whose defence has a course of trainings, or a guard that is fitted afterwards."""
    workshop = Workshop(run, options, plan, beside)
    part = course_of(run.defence)
    if part is not None:
        trained = workshop.taught(part)
    elif plan is not None:
        trained = PrivateTraining(run, plan, options).finish()
    else:
        trained = Training(run, options).finish()[0]
    guards = workshop.fitted_guards(trained)
    return replace(trained, guards=guards, history=run.views[0].history)  # with what was read for the guards


def time_steps(
    task: Task,
    defence: Defence,
    population: Population,
    work: Sequence[Assignment],
    options: LoopOptions,
    budget: float,
) -> StepTimes:
    """What a training costs: its set-up, and a few real steps that are thrown away.

    Args:
        task: as for `train`, like the next four.
        defence: its parts apply outermost first.
        population: all records.
        work: one entry per model.
        options: see `LoopOptions`; the checkpoint is not touched.
        budget: seconds after which no further step is begun; one step to warm up and two timed ones always run.

    Raises:
        UnsupportedModel: as for `train`.
    """
    start = time.perf_counter()
    task = configured(defence, task)
    plan, part = update_of(defence, population), course_of(defence)
    trainings = 1.0 if part is None else part.trainings
    if plan is not None:
        times = time_private_steps(task, defence, plan, population, work, options, budget)
        return times._replace(epochs=math.ceil(times.epochs * trainings))
    run = prepare(task, defence, population, work, options)
    training = Training(run, options)
    setup = time.perf_counter() - start
    epochs = math.ceil(run.task.epochs * trainings)
    return StepTimes(setup, training.median_step(start + setup + budget), training.steps, epochs)
