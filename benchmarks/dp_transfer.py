"""What public data buy: private training from scratch, or of a part of a network that was trained on public data.

    python benchmarks/dp_transfer.py --cifar ../shared/data/cifar10-jpeg.zip --json

Two pairs. `grey`: CIFAR-10 in grey, resized to 28x28 by a fixed rule, is public, and Fashion-MNIST is private.
`classes`: the images of CIFAR-10's classes 0-4 are public, those of classes 5-9 private. Four ways: everything from
scratch; and, from the public network with a fresh head, the head only, the last layers, or all of it.

Learning rates are chosen on held-out private training images. Then every cell is trained on all of them, and its test
images are scored once. All noise is drawn from seeds, so these are audit models: the guarantee says so. Each result is
kept in `--state` as it comes, and a run that was stopped goes on from there; the page in `--out` shows what is there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.accounting.guarantee import Guarantee
from sfumato.atomic import write_atomic
from sfumato.canonical import content_hash
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.cifar10 import CIFAR10
from sfumato.data.sources.fashion_mnist import FashionMNIST
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.pretrained import Pretrained
from sfumato.defences.undefended import Undefended
from sfumato.models.base import ModelFamily
from sfumato.models.head import head_name
from sfumato.models.shape import image_shape, outputs_checked
from sfumato.seeding import stream
from sfumato.training.defence import Defence
from sfumato.training.metrics import metric
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, PublicScaling, Task
from transfer_page import PAIRS, page, table_of

DELTA = 1e-5
TRIAL_EPSILON = 3.0
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
MEAN, STD = 0.5, 0.25  # of the inputs: constants, the same for public and private images
EARLIER_TRIALS = 4  # held-out trials on the pair `grey` before this script ran, for batch and steps
WAYS = {"scratch": "", "head": "head", "last": r"(7|8|12)\..*", "full": "all"}  # what is trained privately
RATES = {  # tried in this order, until the held-out accuracy falls
    "scratch": (0.5, 1.5, 4.0, 12.0),
    "head": (0.5, 1.5, 4.0, 12.0, 36.0),
    "last": (0.3, 1.0, 3.0, 10.0, 30.0),
    "full": (0.3, 1.0, 3.0, 10.0, 30.0),
}


@dataclass(frozen=True, kw_only=True)
class TransferCNN(ModelFamily):
    """Three convolutions with GroupNorm and one linear layer that starts at zero; 10,394 parameters at 28x28 in grey.

    Args:
        width: channels of the first two convolutions; the third has twice as many.
    """

    name: ClassVar[str] = "transfer-cnn"

    width: int = 16

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        image, w = image_shape(self.name, shape, smallest=8), self.width
        side = (-(-image.height // 2) // 4) * (-(-image.width // 2) // 4)
        head = nn.Linear(2 * w * side, outputs_checked(outputs))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return nn.Sequential(
            nn.Conv2d(image.channels, w, 5, stride=2, padding=2), nn.GroupNorm(8, w), nn.ReLU(),
            nn.Conv2d(w, w, 3, padding=1), nn.GroupNorm(8, w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(w, 2 * w, 3, padding=1), nn.GroupNorm(8, 2 * w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), head,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is run.

    Args:
        batch: expected batch size of a private step.
        steps: of a private training.
        epochs: of the public training, by pair.
        seeds: of the cells.
        epsilons: in the order in which they are run.
        held_out: share of the private training images that chooses learning rates.
    """

    batch: int = 1024
    steps: int = 100
    epochs: tuple[tuple[str, int], ...] = (("grey", 6), ("classes", 10))
    seeds: tuple[int, ...] = (0, 1, 2)
    epsilons: tuple[float, ...] = (3.0, 8.0, 1.0)
    held_out: float = 1 / 6

    @property
    def name(self) -> str:
        """Of the file of results: runs of another scale never meet."""
        return content_hash([self.batch, self.steps, self.epochs, self.held_out])[:12]


class Pair(NamedTuple):
    """Public images, private ones, test images of the private kind, and the public number of private ones."""

    name: str
    public: Population
    private: Population
    test: Population
    units: int


class Results:
    """Rows as they come, in one file of JSON lines that is whole at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, key: str) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["key"] == key), None)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())

    def of(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        """The rows of one kind with these values."""
        return [r for r in self.rows if r["kind"] == kind and all(r[name] == value for name, value in wanted.items())]


def load_pair(name: str, cifar: str) -> Pair:
    """The data of a pair; `cifar` is CIFAR-10 as `sfumato` takes it."""
    train, test = (CIFAR10(path=cifar, part=part, seed=None).load() for part in ("train", "test"))
    if name == "grey":
        private, unseen = (FashionMNIST(part=part, seed=None).load() for part in ("train", "test"))
        return Pair(name, in_grey(train), private, unseen, 60_000)
    return Pair(name, classes_of(train, 0, 5), classes_of(train, 5, 10), classes_of(test, 5, 10), 25_000)


def in_grey(population: Population, side: int = 28) -> Population:
    """Colour images in grey, resized to `side` pixels: bilinear, antialiased."""
    parts = []
    for rows in np.array_split(np.arange(len(population)), max(1, len(population) // 5000)):
        grey = (population.tensor(rows) * torch.tensor(GREY)[:, None, None]).sum(1, keepdim=True)
        small = nn.functional.interpolate(grey, size=(side, side), mode="bilinear", antialias=True)
        parts.append((small * 255).round().clamp(0, 255).byte().numpy())
    return replace(population, records=ArrayRecords(np.concatenate(parts)))


def classes_of(population: Population, first: int, last: int) -> Population:
    """The records of classes `first` .. `last` - 1, numbered from 0."""
    labels = population.label_array
    picked = population.take(np.flatnonzero((labels >= first) & (labels < last)))
    return replace(
        picked, labels=picked.label_array - first, class_names=population.class_names[first:last], ids=picked.id_array
    )


def public_weights(pair: Pair, scale: Scale, results: Results) -> Path:
    """Weights of a network trained on the public images, without its head: the private classes get a fresh one."""
    recipe = Recipe(_public_task(dict(scale.epochs)[pair.name]), Undefended())
    key = content_hash(["public", recipe.spec(), pair.public.fingerprint])
    path = results.path.parent / f"public-{pair.name}-{key[:12]}.safetensors"
    if results.find(key) is not None and path.is_file():
        return path
    start = time.process_time()
    trained = recipe.fit(pair.public, [Assignment(np.arange(len(pair.public)), 0)], LoopOptions())[0]
    network = recipe.network(trained, pair.public)
    head = f"{head_name(network)}."
    state = {name: value for name, value in (trained.state or {}).items() if not name.startswith(head)}
    replace(trained, state=state).save(path, key=key)
    epochs = recipe.task.epochs
    row = {"kind": "public", "key": key, "pair": pair.name, "epochs": epochs, "images": len(pair.public)}
    fitted = _accuracy(recipe, trained, pair.public.take(np.arange(min(5000, len(pair.public)))))
    results.add(row | {"training_accuracy": fitted, "cpu_seconds": time.process_time() - start})
    return path


def _public_task(epochs: int) -> Task:
    return Task(
        model=TransferCNN(),
        optimizer=Optimizer(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
        epochs=epochs,
        batch_size=128,
        augmentation=("flip", "shift"),
        scaling=PublicScaling(mean=MEAN, std=STD),
    )


def recipe_of(way: str, weights: Path, lr: float, epsilon: float, units: int, scale: Scale) -> Recipe:
    """The private training of one cell."""
    private: Defence = DPSGD(
        sample_rate=min(1.0, scale.batch / units),
        expected_batch_size=scale.batch,
        steps=scale.steps,
        delta=DELTA,
        adjacency="ADD_OR_REMOVE_ONE",
        target_epsilon=epsilon,
        max_grad_norm=1.0,
        input_mean=MEAN,
        input_std=STD,
        lr=lr,
        momentum=0.9,
        schedule="cosine",
    )
    if way != "scratch":
        private = Pretrained(weights=str(weights), data="public", trainable=WAYS[way], inner=private)
    return Recipe(Task(model=TransferCNN()), private, name=way)


def measured(recipe: Recipe, private: Population, scored: Population, seed: int, target: float) -> dict[str, Any]:
    """Train on all of `private`, score on `scored`, and check the guarantee of the events that ran."""
    start = time.process_time()
    trained = recipe.fit(private, [Assignment(np.arange(len(private)), seed)], LoopOptions())[0]
    found = trained.guarantee
    if not isinstance(found, Guarantee) or not 0.95 * target < found.epsilon <= target or found.delta != DELTA:
        raise AssertionError(f"Expected epsilon just below {target:g} at {DELTA:g}, got: {trained.guarantee_statement}")
    network = recipe.network(trained, private)
    (ran,) = found.mechanisms
    return {
        "accuracy": _accuracy(recipe, trained, scored),
        "scored": len(scored),
        "trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in network.parameters()),
        "spent": found.epsilon,
        "noise_multiplier": ran.plain()["noise_multiplier"],
        "sample_rate": ran.plain()["sample_rate"],
        "guarantee": trained.guarantee_statement,
        "cpu_seconds": time.process_time() - start,
    }


def _accuracy(recipe: Recipe, trained: Any, scored: Population) -> float:
    predict = recipe.predictor(trained, scored)
    with torch.no_grad():
        chunks = np.array_split(np.arange(len(scored)), max(1, len(scored) // 500))
        logits = np.concatenate([predict(scored.tensor(rows)).numpy() for rows in chunks])
    return metric("accuracy")(logits, scored.label_array)


def trial(pair: Pair, way: str, lr: float, scale: Scale, results: Results) -> float:
    """Held-out accuracy of one learning rate of one way at epsilon 3, on private training images."""
    order = stream(0, "held out").permutation(len(pair.private))
    cut = round(scale.held_out * len(order))
    units = pair.units - round(scale.held_out * pair.units)
    recipe = recipe_of(way, public_weights(pair, scale, results), lr, TRIAL_EPSILON, units, scale)
    facts = {"kind": "trial", "pair": pair.name, "way": way, "lr": lr, "epsilon": TRIAL_EPSILON, "seed": 0}
    key = content_hash([facts, recipe.spec(), pair.private.fingerprint, cut])
    if results.find(key) is None:
        fit, held = (pair.private.take(np.sort(rows)) for rows in (order[cut:], order[:cut]))
        results.add(facts | {"key": key} | measured(recipe, fit, held, 0, TRIAL_EPSILON))
    return next(row["accuracy"] for row in results.rows if row["key"] == key)


def chosen_rate(pair: str, way: str, results: Results) -> float:
    """The learning rate with the best held-out accuracy; among equal ones the first that was tried."""
    return max(results.of("trial", pair=pair, way=way), key=lambda row: row["accuracy"])["lr"]


def cell(pair: Pair, way: str, epsilon: float, seed: int, scale: Scale, results: Results) -> None:
    """Train one cell on all private images and score its test images, unless that has been done."""
    lr = chosen_rate(pair.name, way, results)
    recipe = recipe_of(way, public_weights(pair, scale, results), lr, epsilon, pair.units, scale)
    facts = {"kind": "cell", "pair": pair.name, "way": way, "lr": lr, "epsilon": epsilon, "seed": seed}
    key = content_hash([facts, recipe.spec(), pair.private.fingerprint, pair.test.fingerprint])
    if results.find(key) is None:
        results.add(facts | {"key": key} | measured(recipe, pair.private, pair.test, seed, epsilon))


def run(pairs: Sequence[Pair], scale: Scale, results: Results) -> Iterator[None]:
    """All trials, then all cells; control comes back after each, for the page."""
    for pair in pairs:
        for way, rates in RATES.items():
            best = 0.0
            for lr in rates:
                found = trial(pair, way, lr, scale, results)
                yield
                if found < best:
                    break
                best = found
    for seed in scale.seeds:
        for epsilon in scale.epsilons:
            for pair in pairs:
                for way in WAYS:
                    cell(pair, way, epsilon, seed, scale, results)
                    yield


def document(results: Results, scale: Scale, command: str) -> dict[str, Any]:
    """All that was measured, as JSON."""
    return {
        "command": command,
        "scale": {"batch": scale.batch, "steps": scale.steps, "epochs": dict(scale.epochs), "seeds": list(scale.seeds)},
        "trials": len(results.of("trial")),
        "earlier_trials": EARLIER_TRIALS,
        "trial_epsilon": TRIAL_EPSILON,
        "cpu_seconds": sum(row["cpu_seconds"] for row in results.rows),
        "torch": torch.__version__,
        "table": table_of(results.rows),
        "rows": results.rows,
    }


def write(found: dict[str, Any], out: Path) -> None:
    """`dp_transfer.json` and `dp_transfer.md` in the folder `out`."""
    write_atomic(out / "dp_transfer.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomic(out / "dp_transfer.md", page(found).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--cifar", required=True, help="CIFAR-10: its binary version, or a folder or zip of images")
    parser.add_argument("--pairs", nargs="*", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--state", type=Path, default=Path(".sfumato/dp_transfer"), help="folder for what is done")
    parser.add_argument("--out", type=Path, help="folder for the page; none by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.state.mkdir(parents=True, exist_ok=True)
    scale = Scale(seeds=tuple(range(args.seeds)))
    results = Results(args.state / f"{scale.name}.jsonl")
    command = shlex.join(["python", "benchmarks/dp_transfer.py", *sys.argv[1:]])
    known = len(results.rows)
    for _ in run([load_pair(name, args.cifar) for name in args.pairs], scale, results):
        for row in results.rows[known:]:
            print({k: v for k, v in row.items() if k not in ("key", "guarantee")}, file=sys.stderr, flush=True)
        known = len(results.rows)
        if args.out is not None:
            write(document(results, scale, command), args.out)
    print(json.dumps(document(results, scale, command), indent=None if args.json else 2))


if __name__ == "__main__":
    main()
