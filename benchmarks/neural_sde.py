"""Residual networks, neural ODEs, neural SDEs and DP-SGD side by side: three claims about their privacy, tested.

    python benchmarks/neural_sde.py --config docs/results/neural_sde.toml --state STATE --minutes 300
    python benchmarks/neural_sde.py --config docs/results/neural_sde.toml --state STATE --page docs/results

The first trains, in rounds: 4 models of every contender, then 8, and so on, so that what is there can be shown at any
time. Finished models and their answers are kept in the state folder; the same command goes on where it stopped. The
second trains nothing: it attacks what is there, tests the claims of docs/results/neural_sde_claims.toml, and writes
neural_sde.md and neural_sde.json. Nothing on the page is typed by hand.

`sfumato compare --config docs/results/neural_sde.toml --store STATE` finds the same models in the same folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path

import torch

from neural_sde_measure import measured
from neural_sde_page import page
from neural_sde_state import Bench, common_models
from sfumato.atomic import write_atomic
from sfumato.cli.config import RunConfig, load
from sfumato.cli.contenders import contenders
from sfumato.cli.opening import open_population
from sfumato.execution.events import Event, JobDone, Notice
from sfumato.execution.executors.base import Executor
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Processes
from sfumato.execution.store import Store

ROUND = 4  # models of each contender that every round adds
CLAIMS = Path(__file__).parents[1] / "docs" / "results" / "neural_sde_claims.toml"


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


def main() -> int:
    given = arguments()
    torch.set_num_threads(1)
    config = load(given.config)
    bench = opened(config, given)
    if given.page is not None:
        written(bench, given)
        return 0
    left = seconds_left(given.minutes, given.until)
    return 0 if trained(bench, executor(given.workers), left) else 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="TOML file with [[contender]] tables")
    parser.add_argument("--state", type=Path, required=True, help="folder of finished models")
    parser.add_argument("--data", help="source in place of the file's, e.g. cifar10:PATH")
    parser.add_argument("--models", type=int, help="of each contender at the end; by default the file's number")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these contenders only")
    parser.add_argument("--draws", type=int, nargs="+", help="numbers of draws in place of the file's")
    parser.add_argument("--minutes", type=float, help="begin no model after so many minutes")
    parser.add_argument("--until", metavar="HH:MM", help="begin no model after this time of day")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; 0 for this process")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="train nothing; write the page and the JSON there")
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="estimands, fixed before the run")
    return parser.parse_args()


def opened(config: RunConfig, given: argparse.Namespace) -> Bench:
    """The data, the contenders, and the store."""
    choice = config.data if given.data is None else replace(config.data, source=given.data)
    settings = config.audit
    if given.models is not None:
        settings = replace(settings, models=given.models)
    if given.draws is not None:
        settings = replace(settings, draws=tuple(given.draws))
    population = open_population(choice, settings.seed)
    recipes = contenders(config, population)
    if given.only:
        unknown = set(given.only) - {recipe.name for recipe in recipes}
        if unknown:
            raise SystemExit(f"Expected names of contenders, got {', '.join(sorted(unknown))}.")
        recipes = [recipe for recipe in recipes if recipe.name in given.only]
    return Bench(population, recipes, settings, Store(given.state))


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


def written(bench: Bench, given: argparse.Namespace) -> None:
    """The page and the JSON file, from the models that are there."""
    stage, short = common_models(bench)
    for name, there in short.items():
        say(f"{name}: {there} models, too few to be shown.")
    found = measured(stage, [recipe.name for recipe in bench.recipes], given.claims, say) | {
        "wanted": bench.settings.models,
        "short": short,
        "notes": head_of(given.config),
        "command": command_line(),
    }
    stem = given.config.stem
    write_atomic(given.page / f"{stem}.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomic(given.page / f"{stem}.md", page(found, stem).encode())
    say(f"Wrote {given.page / stem}.md and .json.")


def head_of(config: Path) -> list[str]:
    """The comment on top of a configuration file, which says what was scaled and chosen: one item for each dash."""
    lines = config.read_text(encoding="utf-8").splitlines()
    head = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    return [" ".join(part.split()) for part in " ".join(head).split(" - ")[1:]]


def command_line() -> str:
    """This command, without folders of this machine."""
    words = [Path(word).name if word.startswith(("/", "~", "..")) else word for word in sys.argv[1:]]
    return " ".join(["python", "benchmarks/neural_sde.py", *words])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
