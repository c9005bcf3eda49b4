"""What a bundle would cost: a few real steps, thrown away."""

from __future__ import annotations

from typing import NamedTuple

from sfumato.errors import UsageError
from sfumato.execution.bundles import Bundle
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.train import time_steps


class Timing(NamedTuple):
    """Seconds per model: of one step, of the set-up, and of a whole training to the last epoch."""

    step: float
    setup: float
    training: float


def measurable(bundle: Bundle) -> bool:
    """Whether the recipe is one whose steps can be timed; a user's own training function cannot."""
    return isinstance(bundle.jobs[0].recipe, Recipe)


def time_bundle(bundle: Bundle, budget: float) -> Timing:
    """Time a few steps of a bundle for about `budget` seconds.

    Raises:
        UnsupportedModel: if the bundle cannot be stacked.
    """
    first, models = bundle.jobs[0], len(bundle.jobs)
    if not isinstance(first.recipe, Recipe):
        raise UsageError(
            f"Expected a task and a defence, got {type(first.recipe).__name__}, whose steps cannot be timed.",
            remedy="Train one model and look at its seconds.",
        )
    work = [Assignment(job.rows, job.seed) for job in bundle.jobs]
    options = LoopOptions(dtype=first.torch_dtype)
    times = time_steps(first.recipe.task, first.recipe.defence, first.population, work, options, budget)
    return Timing(times.step / models, times.setup / models, times.seconds / models)
