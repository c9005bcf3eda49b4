"""One model after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.execution.bundles import Bundle, perform, threads
from sfumato.execution.events import BundleStarted
from sfumato.execution.executors.base import Executor, Session, claimed
from sfumato.execution.jobs import TrainJob
from sfumato.validate import at_least


@dataclass(frozen=True)
class Inline(Executor):
    """One model after the other.

    Args:
        threads: torch threads; None for as many as torch uses already.
    """

    name: ClassVar[str] = "inline"
    summary: ClassVar[str] = "One model after the other, in this process."
    threads: int | None = None

    def __post_init__(self) -> None:
        at_least("threads", self.threads if self.threads is not None else 1, 1)

    def describe(self) -> str:
        return f"inline, {self.threads or 'all'} thread{'' if self.threads == 1 else 's'}"

    def parts(self, jobs: Sequence[TrainJob]) -> list[list[TrainJob]]:
        return [[job] for job in jobs]

    def run(self, bundles: Sequence[Bundle], session: Session) -> None:
        run_here(bundles, session, self.threads)


def run_here(bundles: Sequence[Bundle], session: Session, count: int | None) -> None:
    """Train bundles one after the other in this process with `count` torch threads."""
    with threads(count):
        for bundle in claimed(bundles, session):
            session.on_event(BundleStarted(bundle.name, len(bundle.jobs), bundle.label))
            perform(bundle, session.store, session.on_event)
