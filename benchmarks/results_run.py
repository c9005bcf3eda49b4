"""What the runs behind the pages of docs/results share: rounds of models, a clean stop, and going on from there.

A run trains in rounds, a few models of every contender each, so that a page can be made of what is there at any time.
Finished models and their answers are kept in the state folder; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path

from results_state import Bench
from sfumato.audit.settings import AuditSettings
from sfumato.cli.config import DataChoice, RunConfig
from sfumato.execution.events import Event, JobDone, Notice
from sfumato.execution.executors.base import Executor
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Processes
from sfumato.training.recipe import AnyRecipe

ROUND = 4  # models of each contender that every round adds


class Progress:
    """Lines on stderr: each model that was trained or asked again, how long it took, and what was said.

    Args:
        head: what is going on.
    """

    def __init__(self, head: str) -> None:
        self.head = head

    def __call__(self, event: Event) -> None:
        if isinstance(event, JobDone) and event.how != "reused":
            say(f"{time.strftime('%H:%M:%S')} {self.head}: {event.label} {event.how}, {event.seconds:.0f} s")
        elif isinstance(event, Notice):
            say(f"{event.text} {event.remedy}".strip())


def run_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every run; a script adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="TOML file with [[contender]] tables")
    parser.add_argument("--state", type=Path, required=True, help="folder of finished models")
    parser.add_argument("--data", help="source in place of the file's, e.g. cifar10:PATH")
    parser.add_argument("--models", type=int, help="of each contender at the end; by default the file's number")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these contenders only")
    parser.add_argument("--minutes", type=float, help="begin no model after so many minutes")
    parser.add_argument("--until", metavar="HH:MM", help="begin no model after this time of day")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; 0 for this process")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="train nothing; write the page and the JSON there")
    return parser


def data_of(config: RunConfig, given: argparse.Namespace) -> DataChoice:
    """The data of the file, or those named in their place."""
    return config.data if given.data is None else replace(config.data, source=given.data)


def settings_of(config: RunConfig, given: argparse.Namespace) -> AuditSettings:
    """The settings of the file, with the number of models that was given."""
    return config.audit if given.models is None else replace(config.audit, models=given.models)


def chosen(recipes: Sequence[AnyRecipe], only: Sequence[str] | None) -> list[AnyRecipe]:
    """The contenders that were named; all where none were.

    Raises:
        SystemExit: for a name that is none of them.
    """
    unknown = set(only or ()) - {recipe.name for recipe in recipes}
    if unknown:
        raise SystemExit(f"Expected names of contenders, got {', '.join(sorted(unknown))}.")
    return [recipe for recipe in recipes if not only or recipe.name in only]


def executor(workers: int) -> Executor:
    """Processes of one thread each: two models side by side are faster than one on two threads."""
    return Processes(workers=workers, threads=1) if workers else Inline(threads=1)


def seconds_left(minutes: float | None, until: str | None) -> float | None:
    """The nearer of the two ends; None for no limit."""
    ends = [] if minutes is None else [60 * minutes]
    if until is not None:
        now = datetime.now()
        end = datetime.combine(now.date(), datetime.strptime(until, "%H:%M").time())
        ends.append(((end if end > now else end + timedelta(days=1)) - now).total_seconds())
    return min(ends, default=None)


def rounds(models: int) -> list[int]:
    """Numbers of models after each round."""
    return [*range(ROUND, models, ROUND), models]


def trained(bench: Bench, how: Executor, seconds: float | None) -> bool:
    """Whether all models are there now; stops cleanly when the time is over."""
    begun, total, done = time.monotonic(), 0, 0
    for models in rounds(bench.settings.models):
        stage = bench.with_models(models)
        for recipe in stage.recipes:
            left = None if seconds is None else max(0.0, seconds - (time.monotonic() - begun))
            found = stage.executed(recipe, how, left, Progress(f"round of {models} models"))
            done += found.trained + found.requeried
            if not found.complete:
                total = sum(stage.ready(one) for one in stage.recipes)
                say(f"The time is over: {done} models made now, {total} of {models * len(stage.recipes)} of this round")
                say("are there. The same command goes on from here.")
                return False
        clock, minutes = time.strftime("%H:%M:%S"), (time.monotonic() - begun) / 60
        say(f"{clock} {models} models of each of {len(stage.recipes)} contenders are there ({minutes:.0f} minutes).")
    return True


def head_of(config: Path) -> list[str]:
    """The comment on top of a configuration file, which says what was scaled and chosen: one item for each dash."""
    lines = config.read_text(encoding="utf-8").splitlines()
    head = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    return [" ".join(part.split()) for part in " ".join(head).split(" - ")[1:]]


def command_line(script: str) -> str:
    """This command, without folders of this machine."""
    words = [re.sub(r"(^|(?<=:))(/|~|\.\.)(\S*/)?", "", word) for word in sys.argv[1:]]  # also behind a source's name
    return " ".join(["python", f"benchmarks/{script}", *words])


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)
