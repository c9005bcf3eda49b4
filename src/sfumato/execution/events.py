"""What happens during an execution, as values. Displays turn them into lines; a record keeps the notices."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

LINE_EVERY = 5.0  # seconds between plain progress lines


@dataclass(frozen=True)
class Event:
    """Something that happened."""

    kind: ClassVar[str] = ""

    def plain(self) -> dict[str, Any]:
        """JSON form."""
        return {"event": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Started(Event):
    """An execution begins: numbers of models in all, ready in the store, to be asked again, and to be trained."""

    kind: ClassVar[str] = "started"
    jobs: int
    ready: int
    requery: int
    training: int


@dataclass(frozen=True)
class Chosen(Event):
    """How the models will be trained, and why."""

    kind: ClassVar[str] = "chosen"
    executor: str
    reason: str


@dataclass(frozen=True)
class BundleStarted(Event):
    """Models that are trained side by side begin; `bundle` names them in later events."""

    kind: ClassVar[str] = "bundle-started"
    bundle: str
    models: int
    label: str


@dataclass(frozen=True)
class EpochDone(Event):
    """An epoch of a bundle is done; `loss` is the mean training loss over its models."""

    kind: ClassVar[str] = "epoch"
    bundle: str
    models: int
    epoch: int
    epochs: int
    loss: float


@dataclass(frozen=True)
class JobDone(Event):
    """A model's result is in the store; `how` is "reused", "asked again" or "trained"."""

    kind: ClassVar[str] = "job-done"
    key: str
    label: str
    how: str
    seconds: float
    bundle: str = ""


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know.

    Args:
        severity: "critical", "theoretical" or "negligible".
        text: what happened.
        remedy: what to do about it, if anything.
    """

    kind: ClassVar[str] = "notice"
    severity: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Attacking(Event):
    """A long attack has come so far."""

    kind: ClassVar[str] = "attacking"
    text: str


@dataclass(frozen=True)
class Ended(Event):
    """An execution is over: complete, out of budget, or interrupted."""

    kind: ClassVar[str] = "ended"
    how: str
    trained: int
    reused: int
    requeried: int
    missing: int
    seconds: float


OnEvent = Callable[[Event], None]


def silent(_: Event) -> None:
    """Ignore an event."""


def sparingly(tell: Callable[[str], None], every: float) -> Callable[[str], None]:
    """`tell`, but for lines that come within `every` seconds of the last one, or of now."""
    last = time.monotonic()

    def told(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            tell(text)

    return told
