"""Executing jobs: what is stored is reused, what is missing is asked again or trained, and everything is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from sfumato.errors import StoreMismatch, UsageError
from sfumato.execution.bundles import Bundle, group, requery
from sfumato.execution.choose import Choice, choose
from sfumato.execution.discovery import AUTO, executor_named
from sfumato.execution.events import Chosen, Ended, Event, JobDone, Notice, OnEvent, Started, silent
from sfumato.execution.executors.base import Executor, Session
from sfumato.execution.jobs import JobResult, TrainJob
from sfumato.execution.locks import POLL
from sfumato.execution.store import Fit, State, Store
from sfumato.execution.timing import measurable
from sfumato.targets.queries import BASE, QuerySet
from sfumato.types import Floats, Rows

SHRINK_EVERY = 5.0  # seconds between two looks at the size of the store


@dataclass(frozen=True, eq=False)
class Execution:
    """What came out.

    Args:
        results: one for each finished job, in the order of the jobs.
        positions: int64 [len(results)], the job that each result belongs to.
        missing: positions of jobs that were not trained because the budget was spent.
        trained: number of models trained now.
        reused: number of models whose results were in the store.
        requeried: number of stored models that were asked again.
        executor: how the models were trained; why is in the events.
        notices: what the user should know; for the record.
        seconds: wall time.
    """

    results: tuple[JobResult, ...]
    positions: Rows
    missing: tuple[int, ...]
    trained: int
    reused: int
    requeried: int
    executor: str
    notices: tuple[Notice, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every job has a result."""
        return not self.missing


def execute(
    jobs: Sequence[TrainJob],
    store: Store,
    *,
    executor: str | Executor = AUTO,
    queries: Sequence[QuerySet] = (),
    on_event: OnEvent = silent,
    budget_seconds: float | None = None,
) -> Execution:
    """Get the results of all jobs, training only what is not in the store.

    Every result is stored as soon as its stack is trained, so the same call goes on where an interrupted one stopped.
    Another run that is training one of these models is waited for, not repeated.

    Args:
        jobs: any number; equal ones are trained once.
        store: shared by any number of concurrent runs.
        executor: "auto", a name, or an `Executor`.
        queries: query sets besides the base query.
        on_event: is told what happens, see `events`.
        budget_seconds: no further bundle is begun after this time; None for no limit.

    Raises:
        SfumatoError: if a training fails; what was finished is stored.
        KeyboardInterrupt: likewise.
    """
    run = _Run(tuple(jobs), store, executor, tuple(q for q in queries if q != BASE), on_event, budget_seconds)
    how = "failed"
    try:
        run.go()
        how = "out of budget" if run.missing() else "complete"
    except KeyboardInterrupt:
        how = "interrupted"
        raise
    finally:
        run.emit(run.ended(how))
    return run.execution()


def run_fit(fit: Fit, store: Store) -> dict[str, Floats]:
    """The arrays of an attack's own fit, from the store or trained now; concurrent runs train it once."""
    with store.lock(fit.key):
        try:
            known = store.get_fit(fit.key)
        except StoreMismatch:
            store.move_aside(fit.key)
            known = None
        if known is None:
            known = fit.run()
            store.put_fit(fit.key, known)
    return known


@dataclass(eq=False)
class _Run:
    """One execution on its way."""

    jobs: tuple[TrainJob, ...]
    store: Store
    executor: str | Executor
    queries: tuple[QuerySet, ...]
    on_event: OnEvent
    budget: float | None
    begun: float = field(default_factory=time.monotonic)
    how: dict[str, str] = field(default_factory=dict)  # key -> "reused", "asked again" or "trained"
    found: dict[str, JobResult] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # recipe -> seconds of the latest model
    notices: list[Notice] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    elsewhere: list[TrainJob] = field(default_factory=list)
    recipe_of: dict[str, str] = field(default_factory=dict)
    looked: float = 0.0

    def go(self) -> None:
        """Reuse, ask again, train."""
        unique = list({job.key: job for job in self.jobs}.values())
        _assert_one_game(self.jobs)
        self.recipe_of = {job.key: job.recipe_hash for job in unique}
        states = {job.key: self._state(job) for job in unique}
        todo = {state: [job for job in unique if states[job.key] == state] for state in states.values()}
        ready, asked, training = (todo.get(s, []) for s in ("ready", "needs queries", "needs training"))
        self.emit(Started(len(unique), len(ready), len(asked), len(training)))
        training += [job for job in ready if not self._reuse(job)]
        training += [job for job in asked if self.may_start() and not self._requery(job)]
        while training:
            self.elsewhere = []
            for jobs in group(training):
                self._train(jobs)
            training = self._wait()
        self._shrink(now=True)

    def _state(self, job: TrainJob) -> State:
        try:
            return self.store.state_of(job, self.queries)
        except StoreMismatch as error:
            return self._aside(job, error)

    def _aside(self, job: TrainJob, error: StoreMismatch) -> State:
        place = self.store.move_aside(job.key)
        text = f"A stored result cannot be used and is made again: {error.message}"
        self.emit(Notice("negligible", text, f"It was moved to {place}." if place else ""))
        return "needs training"

    def _reuse(self, job: TrainJob) -> bool:
        try:
            result = self.store.get(job.key, self.queries, asked=job.asked_hash)
        except StoreMismatch as error:
            self._aside(job, error)
            return False
        if result is None:
            return False
        self.found[job.key] = result
        self.emit(JobDone(job.key, job.label, "reused", 0.0))
        return True

    def _requery(self, job: TrainJob) -> bool:
        """Whether the answers are there now; the stored model is asked, unless another run has done so meanwhile."""
        with self.store.lock(job.key):
            return self._settled(job)

    def _settled(self, job: TrainJob) -> bool:
        """Whether the result is there without training, now that the lock of the job is held."""
        state, start = self._state(job), time.monotonic()
        if state == "ready":
            return self._reuse(job)
        if state == "needs training":
            return False
        known = {q.key for q in self.store.queries_of(job.key, asked=job.asked_hash)}
        try:
            requery(job, [q for q in self.queries if q.key not in known], self.store)
        except StoreMismatch as error:
            self._aside(job, error)
            return False
        self.emit(JobDone(job.key, job.label, "asked again", time.monotonic() - start))
        return True

    def _train(self, jobs: list[TrainJob]) -> None:
        """Train the jobs of one group."""
        if isinstance(self.executor, str) and self.executor == AUTO and not measurable(Bundle((jobs[0],))):
            known = self.seconds.get(jobs[0].recipe_hash)
            if known is None:  # the first model is the measurement
                self._train_with(choose(jobs, self.store), jobs[:1])
                jobs, known = jobs[1:], self.seconds.get(jobs[0].recipe_hash)
            if jobs and self.may_start():
                self._train_with(choose(jobs, self.store, known), jobs)
        elif self.may_start():
            self._train_with(self._choice(jobs), jobs)

    def _choice(self, jobs: list[TrainJob]) -> Choice:
        if isinstance(self.executor, Executor):
            return Choice(self.executor, "as asked for")
        if self.executor == AUTO:
            return choose(jobs, self.store)
        return Choice(executor_named(self.executor), "as asked for")

    def _train_with(self, choice: Choice, jobs: list[TrainJob]) -> None:
        executor = choice.executor
        self.emit(Chosen(executor.describe(), choice.reason))
        because = "" if jobs[0].recipe.stackable or getattr(executor, "models", 1) == 1 else _not_stackable(jobs[0])
        if because:
            self.emit(Notice("negligible", f"Models are trained one by one: {because}."))
        bundles = [
            Bundle(tuple(part), {job.key: self._wanted(job) for job in part}, executor.describe(), because)
            for part in executor.parts(jobs)
        ]
        executor.run(bundles, Session(self.store, self.emit, self.claim, self.may_start))

    def _wanted(self, job: TrainJob) -> list[QuerySet]:
        """The query sets asked for, and those answered before, whose answers must not be lost."""
        return list(dict.fromkeys([*self.queries, *self.store.queries_of(job.key, asked=job.asked_hash)]))

    @contextmanager
    def claim(self, bundle: Bundle) -> Iterator[Bundle | None]:
        """Hold the locks of the jobs of a bundle that are still to be trained; leave out those of other runs."""
        with ExitStack() as held:
            rest: list[TrainJob] = []
            for job in bundle.jobs:
                if not held.enter_context(self.store.lock(job.key, wait=False)):
                    self.elsewhere.append(job)
                elif not self._settled(job):
                    rest.append(job)
            yield bundle.only(rest) if rest else None
        self._shrink()

    def may_start(self) -> bool:
        """Whether the budget is not spent."""
        return self.budget is None or time.monotonic() - self.begun < self.budget

    def _wait(self) -> list[TrainJob]:
        """Wait until another run is done with the first of its models; the jobs to look at again."""
        if not self.elsewhere:
            return []
        text = f"Another run is training {len(self.elsewhere)} of these models; waiting for it."
        self.emit(Notice("negligible", text))
        while self.may_start():
            with self.store.lock(self.elsewhere[0].key, wait=False) as free:
                if free:
                    break
            time.sleep(POLL)
        return self.elsewhere if self.may_start() else []

    def _shrink(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self.looked < SHRINK_EVERY:
            return
        dropped = self.store.shrink()
        self.looked = time.monotonic()
        if dropped.models:
            text = (
                f"The weights of {dropped.models} models ({dropped.bytes / 1e6:.3g} MB) were deleted to keep the store "
                f"under {self.store.limit_bytes / 1e6:.3g} MB; their answers are kept."
            )
            self.emit(Notice("negligible", text, "Raise the limit, or train again for queries that are new."))

    def emit(self, event: Event) -> None:
        """Keep books, and pass the event on; the same notice once."""
        if isinstance(event, Notice):
            if event in self.notices:
                return
            self.notices.append(event)
        if isinstance(event, Chosen):
            self.chosen.append(event.executor)
        if isinstance(event, JobDone):
            self.how[event.key] = event.how
            if event.how == "trained":
                self.seconds[self.recipe_of[event.key]] = event.seconds
        self.on_event(event)

    def missing(self) -> tuple[int, ...]:
        """Positions of jobs without a result."""
        return tuple(i for i, job in enumerate(self.jobs) if job.key not in self.how)

    def _count(self, how: str) -> int:
        return sum(value == how for value in self.how.values())

    def ended(self, how: str) -> Ended:
        """The last event."""
        counts = (self._count("trained"), self._count("reused"), self._count("asked again"))
        unfinished = len({job.key for job in self.jobs} - self.how.keys())
        return Ended(how, *counts, unfinished, time.monotonic() - self.begun)

    def execution(self) -> Execution:
        """Everything, read back from the store where it was not read before."""
        for job in self.jobs:
            if job.key in self.how and job.key not in self.found:
                result = self.store.get(job.key, self.queries, asked=job.asked_hash)
                if result is None:
                    raise StoreMismatch(f"Expected the result of job {job.key[:12]} in the store, got none.")
                self.found[job.key] = result
        missing = self.missing()
        positions = np.setdiff1d(np.arange(len(self.jobs)), np.array(missing, dtype=np.int64)).astype(np.int64)
        results = tuple(self.found[self.jobs[position].key] for position in positions)
        counts = (self._count("trained"), self._count("reused"), self._count("asked again"))
        executor = "; ".join(dict.fromkeys(self.chosen)) or "nothing to train"
        spent = time.monotonic() - self.begun
        return Execution(results, positions, missing, *counts, executor, tuple(self.notices), spent)


def _assert_one_game(jobs: Sequence[TrainJob]) -> None:
    if len({(job.key, job.asked_hash) for job in jobs}) > len({job.key for job in jobs}):
        raise UsageError(
            "Expected each model to be asked about one game, got equal jobs with different `asked` records.",
            remedy="Execute them one after the other; the models are reused.",
        )


def _not_stackable(job: TrainJob) -> str:
    return f"{job.recipe.name} is a training function of the user's own, which sfumato cannot stack"
