"""Several processes, each training one model (or one stack) after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sfumato import errors
from sfumato.errors import SfumatoError
from sfumato.execution.bundles import Bundle, cut
from sfumato.execution.choices import cores
from sfumato.execution.events import BundleStarted, Notice
from sfumato.execution.executors.base import Executor, Session
from sfumato.execution.executors.inline import run_here
from sfumato.execution.jobs import TrainJob
from sfumato.execution.pool import Message, Worker, messages, start_workers, stop
from sfumato.execution.travel import BundleParcel, packed, unpicklable, write_population
from sfumato.validate import at_least


@dataclass(frozen=True)
class Processes(Executor):
    """Several processes of our own; each imports torch for itself, which takes a few seconds.

    Args:
        workers: number of processes; None for one per core.
        models: most models in one stack inside a worker.
        threads: torch threads of each; None to share the cores out.
    """

    name: ClassVar[str] = "processes"
    summary: ClassVar[str] = "Several processes, each training one model or one stack after the other."
    workers: int | None = None
    models: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("models", self.models), ("threads", self.threads)):
            at_least(name, value if value is not None else 1, 1)

    @property
    def worker_count(self) -> int:
        """Number of processes."""
        return self.workers or cores()

    @property
    def thread_count(self) -> int:
        """Torch threads of each."""
        return self.threads or max(1, cores() // self.worker_count)

    def describe(self) -> str:
        inside = "one model" if self.models == 1 else f"up to {self.models} models"
        threads = f"{self.thread_count} thread{'' if self.thread_count == 1 else 's'}"
        return f"{self.worker_count} processes of {threads}, {inside} at a time"

    def parts(self, jobs: Sequence[TrainJob]) -> list[list[TrainJob]]:
        return cut(jobs, self.models if jobs[0].recipe.stackable else 1, self.worker_count)

    def run(self, bundles: Sequence[Bundle], session: Session) -> None:
        able, unable = sendable(bundles, session)
        if able:
            with tempfile.TemporaryDirectory(prefix="sfumato-") as folder, running(self.worker_count, able) as workers:
                unable += _Dispatch(self, session, Populations(Path(folder)), workers, able).finish()
        run_here(unable, session, None)


@contextmanager
def running(count: int, bundles: Sequence[Bundle]) -> Iterator[list[Worker]]:
    """Workers, no more than there are bundles; killed at the end, however it comes."""
    workers = start_workers(min(count, len(bundles)))
    try:
        yield workers
    finally:
        stop(workers)


def sendable(bundles: Sequence[Bundle], session: Session) -> tuple[list[Bundle], list[Bundle]]:
    """Bundles that can be sent to another process, and those that cannot, which is said aloud."""
    able: list[Bundle] = []
    unable: list[Bundle] = []
    for bundle in bundles:
        reason = unpicklable(bundle.jobs[0].recipe)
        if reason is not None:
            session.on_event(_trained_here(reason))
        (able if reason is None else unable).append(bundle)
    return able, unable


@dataclass(eq=False)
class Populations:
    """Populations as memory-mapped files in a temporary folder, each written once."""

    folder: Path
    written: set[str] = field(default_factory=set)

    def pack(self, bundle: Bundle) -> BundleParcel:
        """The bundle, ready to travel."""
        population = bundle.jobs[0].population
        place = self.folder / f"{population.fingerprint}-{population.classes}-{len(population.events)}"
        if place.name not in self.written:
            write_population(population, place)
            self.written.add(place.name)
        return packed(bundle, place)


class _Dispatch:
    """Who works on what, with the locks held meanwhile."""

    def __init__(
        self,
        executor: Processes,
        session: Session,
        populations: Populations,
        workers: list[Worker],
        bundles: Sequence[Bundle],
    ) -> None:
        self.executor, self.session, self.populations, self.workers = executor, session, populations, workers
        self.waiting = list(bundles)
        self.again: set[str] = set()  # keys of jobs that have lost a worker once
        self.busy: dict[Worker, tuple[Bundle, ExitStack]] = {}
        self.unreadable: list[Bundle] = []

    def finish(self) -> list[Bundle]:
        """Work until nothing is left; returns the bundles that the workers could not read."""
        try:
            for worker in self.workers:
                self._feed(worker)
            while self.busy:
                for message in messages(list(self.busy)):
                    self._handle(message)
        finally:
            stop(self.workers)  # before the locks are released, so that nobody trains the same model meanwhile
            for _, held in self.busy.values():
                held.close()
        return self.unreadable

    def _feed(self, worker: Worker) -> None:
        while self.waiting and self.session.may_start():
            held = ExitStack()
            claim: AbstractContextManager[Bundle | None] = self.session.claim(self.waiting.pop(0))
            bundle = held.enter_context(claim)
            if bundle is None:
                held.close()
                continue
            self.busy[worker] = (bundle, held)
            self.session.on_event(BundleStarted(bundle.name, len(bundle.jobs), bundle.label))
            store = self.session.store
            content = {"bundle": self.populations.pack(bundle), "threads": self.executor.thread_count}
            worker.send("train", content | {"root": str(store.root.resolve()), "limit_bytes": store.limit_bytes})
            return

    def _handle(self, message: Message) -> None:
        if message.kind == "event":
            self.session.on_event(message.content)
            return
        bundle, held = self.busy[message.worker]
        if message.kind == "failed":
            raise rebuilt(message.content)
        del self.busy[message.worker]
        held.close()
        if message.kind == "unreadable":
            self.session.on_event(_trained_here(f"a worker cannot load its recipe ({message.content})"))
            self.unreadable.append(bundle)
        if message.kind == "died":
            self._replace(message, bundle)
        else:
            self._feed(message.worker)

    def _replace(self, message: Message, bundle: Bundle) -> None:
        text = f"A worker process died while training {bundle.label}: {message.content}."
        if any(job.key in self.again for job in bundle.jobs):
            raise SfumatoError(
                f"{text} This was the second try.",
                remedy='Use fewer workers, smaller stacks, or executor="inline" with more memory.',
            )
        self.session.on_event(Notice("negligible", text, "The models are tried once more, in smaller stacks."))
        self.again |= {job.key for job in bundle.jobs}
        self.waiting[:0] = [bundle.only(jobs) for jobs in cut(bundle.jobs, max(1, len(bundle.jobs) // 2))]
        self.workers.remove(message.worker)
        message.worker.kill()
        fresh = start_workers(1)[0]
        self.workers.append(fresh)
        self._feed(fresh)


def rebuilt(content: dict[str, Any]) -> Exception:
    """The error that a worker reported, as the kind it was there where that is one of sfumato's."""
    kind = getattr(errors, content["kind"], None)
    if isinstance(kind, type) and issubclass(kind, SfumatoError):
        return kind(content["message"], remedy=content["remedy"])
    return SfumatoError(
        f"Expected a worker to train a model, got {content['kind']}: {content['message']}\n{content['traceback']}",
        remedy='Run with executor="inline" to see the error where it happens.',
    )


def _trained_here(reason: str) -> Notice:
    return Notice("negligible", f"Models are trained in this process: {reason}.", "Define the recipe in a module.")
