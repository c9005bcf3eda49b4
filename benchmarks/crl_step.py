"""What a training step costs under CRL: against the same network undefended.

    python benchmarks/crl_step.py --json

A step is all that the training loop does for a batch: gathering its rows, forward, objective, backward, and the
updates of the network and, under CRL, of the centres. Both ways train the same network on the same batches, in turn;
which of them begins changes from pair to pair. Data are random numbers: no step depends on what they mean.

- `crl_step_ratio_NETWORK`: time under CRL over time undefended, for one step of an even epoch and one of an odd epoch
  that takes the branch that costs most (labels are flattened). `..._even`, `..._flattening` and `..._descent` are
  single kinds of steps; levels are set so that both parts of CRL take that branch in each of them.
- networks: `cnn` is the small CNN on 28x28, `mlp` 1024-512-256-128 (tanh) on 600 features with 100 classes, `resnet8`
  on 3x32x32; batches of 64.

A key is the median over pairs; `KEY_low` and `KEY_high` are the order statistics that hold the true median with the
confidence `KEY_confidence` (binomial). `KEY_ms` and `KEY_undefended_ms` are median times. Nothing else should run on
the machine meanwhile: the load is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
import torch

from dp_overhead import cores, median_interval, surroundings
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.crl import CRL
from sfumato.defences.undefended import Undefended
from sfumato.models.base import ModelFamily
from sfumato.models.mlp import MLP
from sfumato.models.resnet import ResNet8
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.defence import Defence
from sfumato.training.loop import Training
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.task import Optimizer, Task

BATCH, SEED = 64, 1
HIGH = 1e6  # a level that no loss comes up to


@dataclass(frozen=True)
class Setting:
    """A network, and what it is given."""

    family: ModelFamily
    shape: tuple[int, ...]
    classes: int
    batch: int = BATCH


SETTINGS = {
    "cnn": Setting(SmallCNN(), (1, 28, 28), 10),
    "mlp": Setting(MLP(hidden=(1024, 512, 256, 128), activation="tanh"), (600,), 100),
    "resnet8": Setting(ResNet8(), (3, 32, 32), 10),
}
TINY = {
    "cnn": Setting(SmallCNN(), (1, 8, 8), 3, 4),
    "mlp": Setting(MLP(hidden=(4,)), (5,), 3, 4),
    "resnet8": Setting(ResNet8(), (3, 8, 8), 3, 4),
}
# Kind of step -> defence, and the epoch, counted from 0, that takes it; CRL counts epochs from 1.
KINDS: dict[str, tuple[Defence, int]] = {
    "undefended": (Undefended(), 0),
    "even": (CRL(), 1),
    "descent": (CRL(alpha=0.0, alpha_centre=0.0), 0),
    "flattening": (CRL(alpha=HIGH, alpha_centre=HIGH), 0),
}
OF_KEY = {"": ("even", "flattening"), "_even": ("even",), "_descent": ("descent",), "_flattening": ("flattening",)}


@dataclass(frozen=True)
class Plan:
    """What is run."""

    networks: list[str]
    pairs: int
    warm_up: int
    threads: int
    tiny: bool


def training_of(setting: Setting, kind: str) -> Training:
    """A training that has not begun, in the epoch that takes this kind of step."""
    random, steps = np.random.default_rng(SEED), 5
    records = steps * setting.batch
    x = random.random((records, *setting.shape), dtype=np.float32)
    population = Population(ArrayRecords(x), "example", labels=np.arange(records) % setting.classes)
    task = Task(model=setting.family, batch_size=setting.batch, epochs=10, optimizer=Optimizer(lr=0.01))
    defence, epoch = KINDS[kind]
    run = prepare(task, defence, population, [Assignment(np.arange(records), SEED)], LoopOptions())
    training = Training(run, LoopOptions())
    training.epoch = epoch
    return training


def timed(plan: Plan, network: str) -> dict[str, list[float]]:
    """Milliseconds of a step of each kind, pair by pair: each time the median of two, after one to warm up."""
    setting = (TINY if plan.tiny else SETTINGS)[network]
    trainings = {kind: training_of(setting, kind) for kind in KINDS}
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for pair in range(plan.warm_up + plan.pairs):
        for kind in list(KINDS)[:: 1 if pair % 2 else -1]:
            spent = 1000 * trainings[kind].median_step(0.0)
            times[kind] += [spent] if pair >= plan.warm_up else []
    return times


def summary(network: str, times: dict[str, list[float]]) -> dict[str, float]:
    """The keys of one network."""
    found: dict[str, float] = {}
    plain = times["undefended"]
    for suffix, kinds in OF_KEY.items():
        key = f"crl_step_ratio_{network}{suffix}"
        ours = [fmean(of_pair) for of_pair in zip(*(times[kind] for kind in kinds), strict=True)]
        ratios = [a / b for a, b in zip(ours, plain, strict=True)]
        interval = median_interval(ratios)
        found |= {
            key: median(ratios), f"{key}_low": interval.low, f"{key}_high": interval.high,
            f"{key}_confidence": interval.confidence, f"{key}_ms": median(ours), f"{key}_undefended_ms": median(plain),
        }  # fmt: skip
        print(f"{key}: {found[key]:.3f} [{interval.low:.3f}, {interval.high:.3f}]", file=sys.stderr, flush=True)
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), choices=SETTINGS, metavar="NETWORK")
    parser.add_argument("--pairs", type=int, default=41, help="pairs that are counted (default 41)")
    parser.add_argument("--warm-up", type=int, default=3, help="pairs that are not (default 3)")
    parser.add_argument("--quick", action="store_true", help="tiny inputs and 2 pairs: that it runs, not a measurement")
    parser.add_argument("--threads", type=int, default=cores())
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    pairs, warm_up = (2, 0) if args.quick else (args.pairs, args.warm_up)
    return Plan(args.only, pairs, warm_up, args.threads, args.quick)


def table(found: dict[str, object]) -> str:
    """The numbers as text."""
    lines = [f"{'':<36}{'median':>9}{'low':>9}{'high':>9}{'ms':>9}{'plain':>9}"]
    for key in (key[: -len("_low")] for key in found if key.endswith("_low")):
        names = (key, f"{key}_low", f"{key}_high", f"{key}_ms", f"{key}_undefended_ms")
        lines.append(f"{key:<36}{''.join(f'{found[name]:>9.3f}' for name in names)}")
    return "\n".join(lines)


def main() -> int:
    args = arguments()
    plan = plan_of(args)
    torch.set_num_threads(plan.threads)
    found: dict[str, object] = {"surroundings": surroundings(plan)}
    for network in plan.networks:
        found |= summary(network, timed(plan, network))
    print(json.dumps(found) if args.json else f"{json.dumps(found['surroundings'])}\n{table(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
