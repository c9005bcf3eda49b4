"""The page of `dp_transfer.py`: intervals over seeds and tables, from what was measured. Nothing is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

PAIRS = {
    "grey": "CIFAR-10 in grey (50,000 public images) for Fashion-MNIST (60,000 private images)",
    "classes": "CIFAR-10 classes 0-4 (25,000 public images) for classes 5-9 (25,000 private images)",
}
WORDS = {"scratch": "from scratch", "head": "head only", "last": "last layers", "full": "full network"}
Row = dict[str, Any]
EPSILONS = (1.0, 3.0, 8.0)


class Mean(NamedTuple):
    """Mean over seeds, and the 95% interval of Student's t (None for a single seed)."""

    value: float
    low: float | None
    high: float | None
    seeds: int


def mean_of(values: Sequence[float]) -> Mean:
    """Of one value per seed."""
    center, count = float(np.mean(values)), len(values)
    if count < 2:
        return Mean(center, None, None, count)
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Mean(center, center - half, center + half, count)


def table_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row per cell of the table, over seeds: accuracy, and its difference from the same seed from scratch."""
    found = []
    for pair, epsilon, way in product(PAIRS, EPSILONS, WORDS):
        base = {row["seed"]: row["accuracy"] for row in _cells(rows, pair, epsilon, "scratch")}
        cells = _cells(rows, pair, epsilon, way)
        gains = [row["accuracy"] - base[row["seed"]] for row in cells if row["seed"] in base and way != "scratch"]
        if cells:
            found.append({
                "pair": pair, "way": way, "epsilon": epsilon,
                "accuracy": mean_of([row["accuracy"] for row in cells])._asdict(),
                "gain": mean_of(gains)._asdict() if gains else None,
            })  # fmt: skip
    return found


def _cells(rows: Sequence[Row], pair: str, epsilon: float, way: str) -> list[Row]:
    wanted = ("cell", pair, epsilon, way)
    return [row for row in rows if (row["kind"], row["pair"], row.get("epsilon"), row.get("way")) == wanted]


def page(found: Row) -> str:
    """The same as Markdown; nothing in it is typed by hand but the words."""
    rows, lines = found["rows"], ["# Public data for private training", "", "```console", found["command"], "```", ""]
    lines += _scale_lines(found)
    for pair, words in PAIRS.items():
        lines += ["", f"## {words}", "", "Accuracy on the private kind's test images, mean over seeds, [95% interval]:"]
        lines += ["", *_markdown(_accuracy_rows(found, pair, "accuracy"))]
        lines += ["", "Points gained over from scratch, paired by seed, [95% interval]:"]
        lines += ["", *_markdown(_accuracy_rows(found, pair, "gain"))]
        lines += ["", "Learning rates, on held-out private training images (the best was taken):"]
        lines += ["", *_markdown(_trial_rows(found, pair))]
    return "\n".join([*lines, "", "## Guarantees of the events that ran", "", *_guarantee_lines(rows)]) + "\n"


def _scale_lines(found: Row) -> list[str]:
    scale, public = found["scale"], [row for row in found["rows"] if row["kind"] == "public"]
    cells = [row for row in found["rows"] if row["kind"] == "cell"]
    networks = "; ".join(
        f"`{r['pair']}` {r['images']:,} images, {r['epochs']} epochs, {r['training_accuracy']:.1%} of its own images"
        for r in public
    )
    parameters = ", ".join(
        sorted({f"{WORDS[r['way']]} {r['trained']:,} of {r['parameters']:,} (`{r['pair']}`)" for r in cells})
    )
    done, minutes = f"{len(cells)} cells and {found['trials']} trials", f"{found['cpu_seconds'] / 60:.0f}"
    seeds = ", ".join(map(str, scale["seeds"]))
    return [
        f"{done} in {minutes} minutes of one core, torch {found['torch']}. Expected batch {scale['batch']:,}, "
        f"{scale['steps']} steps, gradients clipped at norm 1, SGD with momentum 0.9, cosine schedule.",
        "",
        "What was scaled, and what the numbers do not say:",
        "",
        "- Data: none was left out. What a cell costs is batch times steps, and these are small.",
        "- Model: a CNN of three convolutions, 16 channels wide, instead of a residual network.",
        f"- Seeds: {seeds}. There is one public network per pair, so the intervals cover the private training and its "
        "noise, neither the public training nor the choice of test images.",
        f"- Public networks: {networks or 'not run yet'}.",
        f"- Parameters that are trained privately: {parameters or 'not run yet'}.",
        f"- Learning rates were chosen by {found['trials']} trials at epsilon {found['trial_epsilon']:g}, upwards "
        f"until the accuracy fell, and kept at the other epsilons; {found['earlier_trials']} trials on the pair `grey` "
        "came before, for batch and steps. A choice by looking at private images is outside the guarantee. Test images "
        "were scored once per cell.",
        "- CIFAR-10 is a JPEG copy. The public network's head is left out: the private classes get a fresh one.",
    ]


def _accuracy_rows(found: Row, pair: str, name: str) -> list[dict[str, str]]:
    table = [row for row in found["table"] if row["pair"] == pair and row[name] is not None]
    by_place = {(row["way"], row["epsilon"]): row[name] for row in table}
    ways = [way for way in WORDS if name == "accuracy" or way != "scratch"]
    return [
        {"trained privately": WORDS[way]}
        | {f"epsilon {epsilon:g}": _shown(by_place.get((way, epsilon)), name) for epsilon in EPSILONS}
        for way in ways
    ]


def _shown(mean: Row | None, name: str) -> str:
    if mean is None:
        return "not run"
    sign = "+" if name == "gain" else ""
    value = f"{100 * mean['value']:{sign}.1f}"
    seeds = f"{mean['seeds']} seed{'s' if mean['seeds'] > 1 else ''}"
    if mean["low"] is None:
        return f"{value} ({seeds})"
    return f"{value} [{100 * mean['low']:{sign}.1f}, {100 * mean['high']:{sign}.1f}] ({seeds})"


def _trial_rows(found: Row, pair: str) -> list[dict[str, str]]:
    trials = [row for row in found["rows"] if row["kind"] == "trial" and row["pair"] == pair]
    column = f"held-out accuracy at epsilon {found['trial_epsilon']:g}"
    return [
        {"trained privately": WORDS[r["way"]], "learning rate": f"{r['lr']:g}", column: f"{100 * r['accuracy']:.1f}"}
        for r in trials
    ]


def _guarantee_lines(rows: list[Row]) -> list[str]:
    """One row per pair and epsilon: all ways share the plan, and so the sentence."""
    cells = [row for row in rows if row["kind"] == "cell"]
    sentences = dict.fromkeys((row["pair"], row["epsilon"], row["guarantee"]) for row in cells)
    shown = [
        {"pair": f"`{pair}`", "target": f"{target:g}", "guarantee": sentence}
        for pair, target, sentence in sorted(sentences)
    ]
    return _markdown(shown)


def _markdown(rows: list[dict[str, str]]) -> list[str]:
    if not rows:
        return ["(not run yet)"]
    head = list(rows[0])
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row[name] for name in head) + " |" for row in rows),
    ]
