"""How fast many models are trained: one after the other, stacked, and as the automatic choice takes it.

    python benchmarks/shadow_models.py --json

Three workloads of 10 epochs each: 64 MLPs (64-64-10) on digits at batch 50; 32 MLPs (600-1024-512-256-128-100) on
2,000 rows of 600 binary features at batch 64; 32 small CNNs on 2,000 Fashion-MNIST images at batch 64. Every way
starts from an empty store and does the whole job: train, answer the base query on all records, store answers and
weights.

A speed-up is the time of the faster of inline with 1 and with 2 torch threads, over the time of the way; both are
medians of the repeats, which are interleaved (inline-1, inline-2, stacked, automatic, inline-1, ...).
`stacked_speedup` counts the training alone, on both sides; `stacked_whole_job_speedup` counts all. `best_speedup` is
what the automatic choice took: the whole job by the clock, the time of choosing included.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from sfumato.data.membership import Membership
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.digits import Digits
from sfumato.data.sources.fashion_mnist import FashionMNIST
from sfumato.defences.undefended import Undefended
from sfumato.execution.executors.inline import Inline
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.models.small_cnn import SmallCNN
from sfumato.seeding import stream
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task


@dataclass(frozen=True)
class Workload:
    """Models of one kind on one population."""

    name: str
    models: int
    stack: int
    task: Task
    population: Callable[[], Population]


def binary_rows() -> Population:
    """2,000 rows of 600 binary features in 100 classes: a noisy copy of the class's own pattern."""
    rng = stream(0, "binary rows")
    labels = np.arange(2000) % 100
    patterns = rng.random((100, 600)) < 0.3
    x = patterns[labels] ^ (rng.random((2000, 600)) < 0.1)
    return Population(ArrayRecords(x.astype(np.float32)), Unit("example"), labels=labels, name="binary rows")


def workloads(scale: float) -> list[Workload]:
    """The three, with `scale` of the epochs (1.0 is the benchmark)."""
    epochs = max(1, round(10 * scale))
    wide = MLP(hidden=(1024, 512, 256, 128))
    return [
        Workload(
            "small_mlp", 64, 64,
            Task(model=MLP(hidden=(64,)), optimizer=Optimizer(lr=0.05), epochs=epochs, batch_size=50),
            lambda: Digits().load(),
        ),
        Workload(
            "mlp", 32, 8, Task(model=wide, optimizer=Optimizer(lr=0.01), epochs=epochs, batch_size=64), binary_rows
        ),
        Workload(
            "cnn", 32, 8, Task(model=SmallCNN(), optimizer=Optimizer(lr=0.05), epochs=epochs, batch_size=64),
            lambda: FashionMNIST(part="train").load().take(np.arange(2000)),
        ),
    ]  # fmt: skip


def warm_up() -> None:
    """One short training: torch loads parts of itself at the first, which is nobody's training time."""
    population = Digits().load()
    task = Task(model=MLP(hidden=(8,)), epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        rows = np.arange(len(population))
        execute([TrainJob(Recipe(task, Undefended()), population, rows, 0)], Store(Path(folder)), executor=Inline(1))


def measure(work: Workload, repeats: int) -> dict[str, object]:
    """Seconds of each way, every repeat, and the speed-ups."""
    population = work.population()
    membership = Membership.half_pairs(population.units, work.models, stream(0, "benchmark"))
    recipe = Recipe(work.task, Undefended())
    ways = {"inline_1": Inline(1), "inline_2": Inline(2), "stacked": Stacked(work.stack), "automatic": "auto"}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    training: dict[str, list[float]] = {name: [] for name in ways}
    taken = ""
    for repeat in range(repeats):
        for name, executor in ways.items():
            jobs = [
                TrainJob(recipe=recipe, population=population, rows=membership.rows(population, m), seed=m)
                for m in range(work.models)
            ]
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                done = execute(jobs, Store(Path(folder)), executor=executor)
                seconds[name].append(time.perf_counter() - start)
                training[name].append(sum(result.facts["seconds"] for result in done.results))
                taken = done.executor if name == "automatic" else taken
            print(f"{work.name} repeat {repeat + 1}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    inline = min(median(seconds["inline_1"]), median(seconds["inline_2"]))
    alone = min(median(training["inline_1"]), median(training["inline_2"]))
    return {
        "stacked_speedup": alone / median(training["stacked"]),
        "best_speedup": inline / median(seconds["automatic"]),
        "stacked_whole_job_speedup": inline / median(seconds["stacked"]),
        "best_was": taken,
        "training_seconds": {name: [round(s, 3) for s in values] for name, values in training.items()},
        "whole_job_seconds": {name: [round(s, 3) for s in values] for name, values in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the epochs, for a quick look")
    parser.add_argument("--only", nargs="*", default=["small_mlp", "mlp", "cnn"])
    args = parser.parse_args()
    warm_up()
    found: dict[str, object] = {"cores": os.cpu_count(), "torch": torch.__version__, "repeats": args.repeats}
    for work in workloads(args.scale):
        if work.name in args.only:
            found |= {f"{work.name}_{key}": value for key, value in measure(work, args.repeats).items()}
    print(json.dumps(found, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
