"""Many models at once in one process, their parameters stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.execution.bundles import Bundle, cut
from sfumato.execution.executors.base import Executor, Session
from sfumato.execution.executors.inline import run_here
from sfumato.execution.jobs import TrainJob
from sfumato.validate import at_least


@dataclass(frozen=True)
class Stacked(Executor):
    """Models of one recipe side by side: every operation works on all of them.

    Args:
        models: most models in one stack.
        threads: torch threads; None for as many as torch uses already.
    """

    name: ClassVar[str] = "stacked"
    summary: ClassVar[str] = "Many models at once in this process, their parameters stacked."
    models: int = 32
    threads: int | None = None

    def __post_init__(self) -> None:
        at_least("models", self.models, 1)
        at_least("threads", self.threads if self.threads is not None else 1, 1)

    def describe(self) -> str:
        threads = f"{self.threads or 'all'} thread{'' if self.threads == 1 else 's'}"
        return f"stacked, up to {self.models} models at once, {threads}"

    def parts(self, jobs: Sequence[TrainJob]) -> list[list[TrainJob]]:
        return cut(jobs, self.models if jobs[0].recipe.stackable else 1)

    def run(self, bundles: Sequence[Bundle], session: Session) -> None:
        run_here(bundles, session, self.threads)
