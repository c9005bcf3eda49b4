"""What an executor is: a way to get bundles trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from sfumato.execution.bundles import Bundle
from sfumato.execution.events import OnEvent
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Store


class Session(NamedTuple):
    """What an executor works with.

    Args:
        store: where results go.
        on_event: is told what happens.
        claim: a context in which the locks of a bundle are held; it yields what is left to do of the bundle, or None.
        may_start: False once the budget is spent; asked before each bundle.
    """

    store: Store
    on_event: OnEvent
    claim: Callable[[Bundle], AbstractContextManager[Bundle | None]]
    may_start: Callable[[], bool]


@dataclass(frozen=True)
class Executor(ABC):
    """A way to get models trained. All of them give the same models, up to rounding."""

    name: ClassVar[str] = ""
    family: ClassVar[str] = "executor"
    reference: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    @abstractmethod
    def describe(self) -> str:
        """One phrase for the report, with its numbers."""

    @abstractmethod
    def parts(self, jobs: Sequence[TrainJob]) -> list[list[TrainJob]]:
        """Cut jobs that may share a stack into those that will."""

    @abstractmethod
    def run(self, bundles: Sequence[Bundle], session: Session) -> None:
        """Train the bundles and store each result as soon as it is there.

        A bundle is begun only inside `session.claim` and while `session.may_start()`.

        Raises:
            SfumatoError: if a training fails; what was finished is stored.
            KeyboardInterrupt: likewise.
        """


def claimed(bundles: Sequence[Bundle], session: Session) -> Iterator[Bundle]:
    """Each bundle in turn, with its locks held while the caller works on it."""
    for bundle in bundles:
        if not session.may_start():
            return
        with session.claim(bundle) as rest:
            if rest is not None:
                yield rest
