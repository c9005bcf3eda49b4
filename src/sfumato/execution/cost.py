"""What an execution would cost, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.errors import StoreMismatch
from sfumato.execution.bundles import Bundle, group, threads
from sfumato.execution.choices import cores
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import State, Store
from sfumato.execution.timing import measurable, time_bundle
from sfumato.targets.answers import scalar_names
from sfumato.targets.queries import BASE, QuerySet, families
from sfumato.training.defence import configured
from sfumato.training.preparation import assemble
from sfumato.training.recipe import Recipe

MEASURING = 0.5  # seconds of timed steps for each recipe, at most 2 s in all
SLOWER, FASTER = 1.5, 0.7  # what a single measurement on a shared machine may be off by


@dataclass(frozen=True)
class CostEstimate:
    """What is to be done.

    Args:
        models_to_train: number of models.
        models_ready: whose answers are all stored.
        requeries: stored models that must be asked further queries.
        forward_passes: records put through a model while asking.
        seconds_low: if stacking or processes use all cores and nothing disturbs; None if it is not known.
        seconds_high: one after the other, disturbed; None if it is not known.
        bytes: that the store will grow by, before its limit on weights.
        unknown: recipes whose training time cannot be told before one model is trained, by name.
    """

    models_to_train: int
    models_ready: int
    requeries: int
    forward_passes: int
    seconds_low: float | None
    seconds_high: float | None
    bytes: int
    unknown: tuple[str, ...] = ()


def estimate(jobs: Sequence[TrainJob], store: Store, queries: Sequence[QuerySet] = ()) -> CostEstimate:
    """Estimate by the seconds of stored models of the same recipe and size, or by a few real steps.

    Args:
        jobs: as for `execute`.
        store: is only read.
        queries: as for `execute`.
    """
    unique = list({job.key: job for job in jobs}.values())
    states = {job.key: _state(job, store, queries) for job in unique}
    training = [job for job in unique if states[job.key] == "needs training"]
    asked = [job for job in unique if states[job.key] == "needs queries"]
    groups = group(training)
    seconds = [_seconds(jobs_of_one, unique, store, MEASURING * min(1.0, 4 / len(groups))) for jobs_of_one in groups]
    unknown = tuple(g[0].recipe.name for g, s in zip(groups, seconds, strict=True) if s is None)
    known = sum(s * len(g) for g, s in zip(groups, seconds, strict=True) if s is not None)
    return CostEstimate(
        models_to_train=len(training),
        models_ready=len(unique) - len(training) - len(asked),
        requeries=len(asked),
        forward_passes=sum(_passes(job, queries) for job in [*training, *asked]),
        seconds_low=None if unknown else FASTER * known / cores(),
        seconds_high=None if unknown else SLOWER * known,
        bytes=sum(_answer_bytes(job, queries) for job in [*training, *asked])
        + sum(len(g) * _weight_bytes(g[0]) for g in groups),
        unknown=unknown,
    )


def _state(job: TrainJob, store: Store, queries: Sequence[QuerySet]) -> State:
    try:
        return store.state_of(job, queries)
    except StoreMismatch:
        return "needs training"  # a damaged entry: `execute` will move it aside


def _seconds(jobs: Sequence[TrainJob], all_jobs: Sequence[TrainJob], store: Store, budget: float) -> float | None:
    """Seconds of one model, or None where only training one could tell."""
    stored = [_stored_seconds(job, store) for job in all_jobs if _alike(job, jobs[0])]
    found = [seconds for seconds in stored if seconds is not None]
    if found:
        return sum(found) / len(found)
    bundle = Bundle(tuple(jobs[:1]))
    if not measurable(bundle):
        return None
    with threads(1):
        return time_bundle(bundle, budget).training


def _alike(job: TrainJob, other: TrainJob) -> bool:
    return job.recipe_hash == other.recipe_hash and len(job.rows) == len(other.rows) and job.dtype == other.dtype


def _stored_seconds(job: TrainJob, store: Store) -> float | None:
    try:
        facts = store.facts(job.key)
    except StoreMismatch:
        return None
    return None if facts is None else float(facts["seconds"])


def _passes(job: TrainJob, queries: Sequence[QuerySet]) -> int:
    """Records put through the model, if it answers at random."""
    passes = len(job.population)
    for family, members in families(queries).items():
        records = len(job.population) if family.scope == "all" or job.asked is None else len(job.asked)
        passes += records * max(q.per_record for q in members)
    return passes


def _answer_bytes(job: TrainJob, queries: Sequence[QuerySet]) -> int:
    scalars = sum(q.variants * len(scalar_names(q)) for q in set(queries) if q != BASE)
    return 4 * len(job.population) * (job.population.classes + scalars)


def _weight_bytes(job: TrainJob) -> int:
    if not isinstance(job.recipe, Recipe):
        return 0
    task, population = configured(job.recipe.defence, job.recipe.task), job.population
    network = assemble(task, job.recipe.defence, population.records.shape, population.classes, job.seed)
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())
