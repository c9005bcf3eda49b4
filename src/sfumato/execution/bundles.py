"""Models that are trained side by side: how jobs are grouped, and how one group becomes stored results."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from sfumato.canonical import content_hash
from sfumato.errors import StoreMismatch, UnsupportedModel
from sfumato.execution.events import EpochDone, JobDone, Notice, OnEvent
from sfumato.execution.jobs import JobResult, TrainJob
from sfumato.execution.store import Store
from sfumato.targets.asking import Asked, ask
from sfumato.targets.queries import QuerySet
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.preparation import Assignment, Epoch, LoopOptions
from sfumato.training.trained import Trained


@dataclass(frozen=True, eq=False)
class Bundle:
    """Jobs of one recipe, population, dtype and size that are trained in one call.

    Args:
        jobs: at least one.
        queries: query sets that each is asked afterwards, by key of the job.
        executor: for the facts of the results.
        not_stacked_because: why its jobs are trained one by one although a stack was asked for.
    """

    jobs: tuple[TrainJob, ...]
    queries: Mapping[str, Sequence[QuerySet]] = field(default_factory=dict)
    executor: str = ""
    not_stacked_because: str = ""

    @property
    def name(self) -> str:
        """A short name for events."""
        return content_hash([job.key for job in self.jobs])[:12]

    @property
    def label(self) -> str:
        """For progress lines."""
        first = self.jobs[0].label or self.jobs[0].recipe.name
        return first if len(self.jobs) == 1 else f"{first} and {len(self.jobs) - 1} more"

    def only(self, jobs: Sequence[TrainJob], *, because: str = "") -> Bundle:
        """Some of its jobs."""
        return Bundle(tuple(jobs), self.queries, self.executor, because or self.not_stacked_because)


def group(jobs: Iterable[TrainJob]) -> list[list[TrainJob]]:
    """Jobs that may share a stack, in order of first appearance."""
    groups: dict[tuple[str, str, int, str, int], list[TrainJob]] = {}
    for job in jobs:
        kind = (job.recipe_hash, job.population.fingerprint, job.population.classes, job.dtype, len(job.rows))
        groups.setdefault(kind, []).append(job)
    return list(groups.values())


def cut(jobs: Sequence[TrainJob], most: int, workers: int = 1) -> list[list[TrainJob]]:
    """Parts of nearly equal size, at most `most` each, as many for each worker where that is possible."""
    parts = math.ceil(len(jobs) / most)
    parts = min(len(jobs), math.ceil(parts / workers) * workers)
    bounds = [round(index * len(jobs) / parts) for index in range(parts + 1)]
    return [list(jobs[a:b]) for a, b in pairwise(bounds)]


def perform(bundle: Bundle, store: Store, on_event: OnEvent) -> None:
    """Train a bundle, ask each model, and store each result. The caller holds the locks of its keys.

    A stack that is refused is trained one by one, and the reason is reported and kept with every result.

    Raises:
        SfumatoError: from the training.
    """
    try:
        trained = _fit(bundle, store, on_event)
    except UnsupportedModel as error:
        if len(bundle.jobs) == 1:
            raise
        on_event(Notice("negligible", f"{len(bundle.jobs)} models are trained one by one: {error.message}"))
        for job in bundle.jobs:
            perform(bundle.only([job], because=error.message), store, on_event)
        return
    for job, model in zip(bundle.jobs, trained, strict=True):
        queries = bundle.queries.get(job.key, ())
        answers = _answers(job, model, queries)
        facts = _facts(bundle, job, model)
        store.put(JobResult(job.key, answers.logits, answers.scalars, facts, asked=job.asked_hash), model)
        on_event(JobDone(job.key, job.label, "trained", model.seconds, bundle.name))
    _checkpoint(bundle, store).remove()


def requery(job: TrainJob, queries: Sequence[QuerySet], store: Store) -> None:
    """Put further query sets to a stored model. The caller holds the lock of its key.

    Raises:
        StoreMismatch: if the weights are gone or damaged, or no longer give the stored logits.
    """
    trained, stored = store.weights(job.key), store.get(job.key)
    if trained is None or stored is None:
        raise StoreMismatch(f"Expected the weights of job {job.key[:12]}, got none.", remedy="Train it again.")
    answers = _answers(job, trained, queries)
    difference = abs(answers.logits - stored.logits).max()
    if not difference <= 1e-3 * max(1.0, float(abs(stored.logits).max())):
        raise StoreMismatch(
            f"Expected the stored weights of job {job.key[:12]} to give the stored logits, got a difference of "
            f"{difference:.2g}.",
            remedy="The entry is not used; the model is trained again.",
        )
    store.add_scalars(job.key, answers.scalars, asked=job.asked_hash)


def _answers(job: TrainJob, trained: Trained, queries: Sequence[QuerySet]) -> Asked:
    predict = job.recipe.predictor(trained, job.population)
    return ask(predict, job.recipe.defence, job.population, queries, job.seed, asked=job.asked, guards=trained.guards)


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """torch uses `count` threads inside (None for as many as now), and the former number again afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def kernel_choice(job: TrainJob, models: int) -> dict[str, Any]:
    """What the choice of kernels of a stack depends on, besides the machine."""
    return {
        "recipe": job.recipe_hash,
        "shape": list(job.population.records.shape),
        "classes": job.population.classes,
        "dtype": job.dtype,
        "models": models,
        "threads": torch.get_num_threads(),
    }


def _fit(bundle: Bundle, store: Store, on_event: OnEvent) -> list[Trained]:
    first, models = bundle.jobs[0], len(bundle.jobs)
    choice = kernel_choice(first, models)

    def report(epoch: Epoch) -> None:
        on_event(EpochDone(bundle.name, models, epoch.epoch, epoch.epochs, epoch.loss))

    options = LoopOptions(
        dtype=first.torch_dtype,
        kernels=store.choices.get("kernels", choice) or {},
        checkpoint=_checkpoint(bundle, store),
        on_epoch=report,
        on_kernels=lambda kernels: store.choices.put("kernels", choice, kernels),
    )
    start = time.perf_counter()
    trained = first.recipe.fit(first.population, [Assignment(job.rows, job.seed) for job in bundle.jobs], options)
    for model in trained:
        if model.seconds == 0:  # a user's own loop does not measure itself
            object.__setattr__(model, "seconds", (time.perf_counter() - start) / models)
    return trained


def _checkpoint(bundle: Bundle, store: Store) -> Checkpoint:
    name = content_hash([[job.key for job in bundle.jobs], bundle.jobs[0].dtype])
    return Checkpoint(store.checkpoint_path(name), name)


def _facts(bundle: Bundle, job: TrainJob, model: Trained) -> dict[str, Any]:
    facts = {**model.facts(), "executor": bundle.executor, "threads": torch.get_num_threads(), "label": job.label}
    facts |= {"recipe": job.recipe_hash, "rows": len(job.rows)}
    return facts | ({"not_stacked_because": bundle.not_stacked_because} if bundle.not_stacked_because else {})
