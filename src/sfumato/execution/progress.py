"""Showing progress: a bar on a terminal, plain lines elsewhere, JSON lines for a machine, or nothing."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sfumato.execution.events import (
    LINE_EVERY,
    Attacking,
    BundleStarted,
    Chosen,
    Ended,
    EpochDone,
    Event,
    JobDone,
    Notice,
    Started,
)
from sfumato.validate import one_of

DISPLAYS = ("auto", "rich", "plain", "json", "none")
SETTLED = 30.0  # seconds of training before it is told how long the rest takes, for the first epochs take longest,
TELLING = 0.1  # or share of the work that is done


class Tally:
    """How far an execution is, from its events."""

    def __init__(self) -> None:
        self.jobs, self.done, self.free = 0, 0, 0
        self.running: dict[str, float] = {}  # bundle -> models that its epochs so far amount to
        self.open: dict[str, int] = {}  # bundle -> models that are not done
        self.spent, self.since = 0.0, 0.0  # seconds of training before, and when the present stretch of it began

    def add(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Started):
            self.jobs += event.jobs  # a run may execute one part of its models after the other
        elif isinstance(event, BundleStarted):
            self._begin(event.bundle, event.models)
        elif isinstance(event, EpochDone):
            self._begin(event.bundle, event.models)
            self.running[event.bundle] = event.models * event.epoch / event.epochs
        elif isinstance(event, JobDone):
            self.done += 1
            self.free += event.how != "trained"
            self.running[event.bundle] = max(0.0, self.running.get(event.bundle, 0.0) - 1)
            self._end_one(event.bundle)
        elif isinstance(event, Ended):
            self.spent, self.open = self.seconds, {}

    @property
    def models(self) -> float:
        """Models done, those under way counted by their epochs."""
        return min(self.jobs, self.done + sum(self.running.values()))

    @property
    def seconds(self) -> float:
        """Of training alone: trying out executors, attacks and what else lies between say nothing of what is left."""
        return self.spent + (time.monotonic() - self.since if self.open else 0.0)

    @property
    def remaining(self) -> float | None:
        """Seconds left, if it goes on as it went; None before enough was trained to tell."""
        worked = self.models - self.free
        if worked <= 0 or (self.seconds < SETTLED and worked < TELLING * (self.jobs - self.free)):
            return None
        return self.seconds / worked * (self.jobs - self.models)

    def _begin(self, bundle: str, models: int) -> None:
        if not self.open:
            self.since = time.monotonic()
        self.open.setdefault(bundle, models)

    def _end_one(self, bundle: str) -> None:
        if bundle not in self.open:
            return
        self.open[bundle] -= 1
        if not self.open[bundle]:
            self.spent = self.seconds if len(self.open) == 1 else self.spent
            del self.open[bundle]


class Display(ABC):
    """Turns events into output."""

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """Show an event."""

    def close(self) -> None:
        """Leave the screen tidy."""
        return


class NoDisplay(Display):
    """Shows nothing."""

    def __call__(self, event: Event) -> None:
        return


class JsonDisplay(Display):
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, event: Event) -> None:
        self.stream.write(json.dumps(event.plain()) + "\n")
        self.stream.flush()


class PlainDisplay(Display):
    """Lines of text, now and then."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.tally, self.last = stream, Tally(), time.monotonic()

    def __call__(self, event: Event) -> None:
        self.tally.add(event)
        text = sentence(event)
        if text is None and isinstance(event, (EpochDone, JobDone)) and time.monotonic() - self.last >= LINE_EVERY:
            self.last, text = time.monotonic(), standing(self.tally)
        if text is not None:
            self.stream.write(text + "\n")
            self.stream.flush()


class RichDisplay(Display):
    """A progress bar, with notices above it."""

    def __init__(self, stream: TextIO) -> None:
        self.tally = Tally()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[standing]}"))
        self.progress = Progress(*columns, TimeElapsedColumn(), console=Console(file=stream), transient=True)
        self.task = self.progress.add_task("models", total=None, standing="")
        self.progress.start()

    def __call__(self, event: Event) -> None:
        self.tally.add(event)
        text = sentence(event)
        if text is not None:
            self.progress.console.print(text, markup=False, highlight=False)
        if isinstance(event, BundleStarted):
            self.progress.update(self.task, description=event.label)
        state = standing(self.tally)
        self.progress.update(self.task, completed=self.tally.models, total=self.tally.jobs or None, standing=state)

    def close(self) -> None:
        self.progress.stop()


@contextmanager
def open_display(kind: str = "auto", stream: TextIO | None = None) -> Iterator[Display]:
    """A display of this kind on `stream` (standard error by default).

    Args:
        kind: "rich", "plain", "json", "none", or "auto": rich on a terminal, plain lines elsewhere.
        stream: where to.
    """
    one_of("display", kind, DISPLAYS)
    output: TextIO = sys.stderr if stream is None else stream
    if kind == "auto":
        kind = "rich" if output.isatty() else "plain"
    display = {"rich": RichDisplay, "plain": PlainDisplay, "json": JsonDisplay}.get(kind)
    shown = NoDisplay() if display is None else display(output)
    try:
        yield shown
    finally:
        shown.close()


def sentence(event: Event) -> str | None:
    """An event as a line of text, or None if it only moves the bar."""
    if isinstance(event, Started):
        models = "1 model" if event.jobs == 1 else f"{event.jobs} models"
        return f"{models}: {event.ready} stored, {event.requery} to ask again, {event.training} to train."
    if isinstance(event, Chosen):
        return f"Training {event.executor} ({event.reason})."
    if isinstance(event, Notice):
        return f"{event.text} {event.remedy}".strip()
    if isinstance(event, Attacking):
        return event.text
    return _last_line(event) if isinstance(event, Ended) else None


def _last_line(event: Ended) -> str:
    models = "1 model" if event.trained == 1 else f"{event.trained} models"
    kept = f"{models} trained, {event.requeried} asked again, {event.reused} reused in {event.seconds:.1f} s"
    if not event.missing:
        return f"{kept}."
    return (
        f"{event.how.capitalize()}: {kept}; all are kept. {event.missing} are left: the same command goes on from here."
    )


def standing(tally: Tally) -> str:
    """How far, and how long still."""
    left = "" if tally.remaining is None else f", about {duration(tally.remaining)} left"
    return f"{tally.done} of {tally.jobs} models{left}"


def duration(seconds: float) -> str:
    """Seconds for people: "8 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
