"""The risk maps of two networks on Fashion-MNIST: what each region carries, with intervals over seeds.

    python benchmarks/risk_maps.py --state STATE --until 06:30
    python benchmarks/risk_maps.py --state STATE --page docs/results

The first trains, in rounds: 4 models of every variant of both networks, then 8, and so on, so that what is there can be
shown at any time. Finished models are kept in the state folder; the same command goes on where it stopped. The second
trains nothing: it attacks what is there and writes, for each network, risk-map-NAME.md, .json, .html and pictures.
Nothing on a page is typed by hand.

`sfumato probe fashion-mnist` with the options that stand on the page finds the same models in the same folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import torch

from sfumato.audit.probe import probe, probe_jobs
from sfumato.audit.probing.settings import ProbeSettings
from sfumato.cli.config import DataChoice, RecipeChoice
from sfumato.cli.contenders import task_of
from sfumato.cli.opening import open_population
from sfumato.data.population import Population
from sfumato.defences.relaxloss import RelaxLoss
from sfumato.execution.events import Event, JobDone, Notice
from sfumato.execution.executors.base import Executor
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.processes import Processes
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.report.risk_map import write
from sfumato.training.task import Task

ROUND = 4  # models of each variant that every round adds
DEFENCE = "relaxloss"


@dataclass(frozen=True)
class Network:
    """One network that is mapped: a preset, its epochs, and those in which a rewound region is tuned."""

    name: str
    recipe: str
    epochs: int
    tuning: int


NETWORKS = (Network("small-cnn", "image-cnn", 12, 4), Network("resnet-8", "image-resnet8", 12, 4))


@dataclass(frozen=True, eq=False)
class Bench:
    """One network with its data and the folder of its models."""

    network: Network
    population: Population
    task: Task
    settings: ProbeSettings
    store: Store
    command: str

    def jobs(self, models: int) -> list[TrainJob]:
        """All models of all variants, those that others start from first."""
        settings = replace(self.settings, models=models)
        lists = probe_jobs(self.population, self.task, RelaxLoss(), settings, self.store)
        return [job for jobs in lists for job in jobs]

    def ready(self) -> int:
        """The largest number of models, a multiple of 2, of which every variant is stored; 0 below 4."""
        counts = range(self.settings.models, 2, -2)
        return next((n for n in counts if all(self.store.state_of(j) == "ready" for j in self.jobs(n))), 0)


class Progress:
    """Lines on stderr: each model that was trained, and what was said."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, JobDone) and event.how == "trained":
            say(f"{time.strftime('%H:%M:%S')} {event.label}, {event.seconds:.0f} s")
        elif isinstance(event, Notice):
            say(f"{event.text} {event.remedy}".strip())


def main() -> int:
    given = arguments()
    torch.set_num_threads(1)
    benches = [opened(network, given) for network in NETWORKS if given.only in (None, network.name)]
    if given.page is not None:
        return written(benches, given.page)
    return 0 if trained(benches, executor(given.workers), seconds_left(given.until)) else 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder of finished models")
    parser.add_argument("--data", default="fashion-mnist", help="another source of images")
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--models", type=int, default=16, help="of each variant at the end")
    parser.add_argument("--epochs", type=int, help="in place of each network's own")
    parser.add_argument("--only", choices=[network.name for network in NETWORKS], help="this network only")
    parser.add_argument("--until", metavar="HH:MM", help="begin no model after this time of day")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; 0 for this process")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="train nothing; write the pages there")
    return parser.parse_args()


def opened(network: Network, given: argparse.Namespace) -> Bench:
    """The data and the task of one network."""
    epochs = given.epochs or network.epochs
    population = open_population(DataChoice(source=given.data, records=given.records), seed=0)
    task = task_of(RecipeChoice(name=network.recipe, fields={"epochs": epochs}), population)
    settings = ProbeSettings(epochs=min(network.tuning, epochs), models=given.models)
    command = (
        f"sfumato probe {given.data} --records {given.records} --recipe {network.recipe} --set epochs={epochs} "
        f"--defence {DEFENCE} --tuning-epochs {settings.epochs} --models"
    )
    return Bench(network, population, task, settings, Store(given.state), command)


def executor(workers: int) -> Executor:
    """Processes of one thread each: two models side by side are faster than one on two threads."""
    return Processes(workers=workers, threads=1) if workers else Inline(threads=1)


def seconds_left(until: str | None) -> float | None:
    """Until that time of day; None for no limit."""
    if until is None:
        return None
    now = datetime.now()
    end = datetime.combine(now.date(), datetime.strptime(until, "%H:%M").time())
    return ((end if end > now else end + timedelta(days=1)) - now).total_seconds()


def trained(benches: Sequence[Bench], how: Executor, seconds: float | None) -> bool:
    """Rounds of models for every network; whether all of them came to their end before the time was up."""
    end = None if seconds is None else time.monotonic() + seconds
    most = max(bench.settings.models for bench in benches)
    for models in dict.fromkeys([*range(ROUND, most, ROUND), most]):
        for bench in benches:
            left = None if end is None else max(0.0, end - time.monotonic())
            say(f"{bench.network.name}: {models} models of each variant")
            done = execute(bench.jobs(models), bench.store, executor=how, on_event=Progress(), budget_seconds=left)
            if not done.complete:
                say(
                    f"The time is up; {len(done.missing)} models of this round are missing. Run the same command again."
                )
                return False
    return True


def written(benches: Sequence[Bench], folder: Path) -> int:
    """The pages of the networks of which enough models are there; 3 if there is none."""
    there = [(bench, models) for bench in benches if (models := bench.ready())]
    for bench, models in there:
        found = probe(
            bench.population,
            bench.task,
            RelaxLoss(),
            replace(bench.settings, models=models),
            bench.store,
            executor=Inline(threads=1),
            command=f"{bench.command} {models}",
            title=f"{bench.population.name}: what the regions of {bench.network.name} carry",
        )
        for path in write(found, folder, f"risk-map-{bench.network.name}").values():
            say(str(path))
    return 0 if there else 3


def say(line: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
