"""Does the noise of a neural SDE make its released weights private? Thousands of tiny trainings say.

    python benchmarks/sde_refutation.py --json

Two worlds differ by one record, the canary. In each, a neural SDE is trained 2,000 times from the same known start by
full-batch gradient descent, with fresh noise in each forward pass. Four tables:

- `isolated`: the canary has a feature that is 0 in every other record. The attacker looks at how far the weights of
  that feature moved. The worlds do not overlap at any noise.
- `ordinary`: a canary without such a feature. The attacker asks for its loss K times and averages, or looks at the
  weights (a linear discriminant, fitted on half of the trainings).
- `contradicted`: the same canary with the other label, which the network trained without it would seldom give.
- `control`: the ordinary canary with per-record clipping and noise on the gradients. That has a theory, and the audited
  value stays below it.

Lower bounds on epsilon are Clopper-Pearson, at delta 1e-5 with confidence 0.95; the threshold comes from one half of
the trainings that the attacker did not fit on, the counts from the other. A perfect attacker would reach `ceiling`.

The sizes are those of an earlier run of the experiment whose AUCs stand beside ours (`reference_auc`); how it drew
records and weights was not kept. `Choices` were searched for: one set for all tables, with which every AUC comes within
0.05 at seed 0. So the agreement says that the tables can be had again, no more. The earlier run calls its ordinary
canary mislabelled. All choices found that agree have a canary whose label the network tends to without it
(`probability_without`: what it gives that label on average); one that contradicts the network is told apart more
easily, above all where there is little noise. The ordering is the finding; the magnitudes belong to this toy.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.nn.functional import cross_entropy

from sfumato.audit.epsilon import EpsilonBound, HalfSplit, clopper_pearson_bound, mu_to_epsilon
from sfumato.audit.statistics import auc
from sfumato.audit.structural import column_shift
from sfumato.seeding import stream, torch_stream

RECORDS, INPUTS, WIDTH, CLASSES = 20, 6, 8, 2
HORIZON, GRID, STEPS, LR = 1.0, 10, 40, 0.2
DELTA, DRAWS = 1e-5, (1, 16, 256)
ISOLATED = INPUTS - 1  # the feature of the canary of the first table
CLIP, CONTROL_SIGMA = 1.0, 0.5
CHUNK = 200  # trainings side by side: as many as the caches hold

SIGMAS = {"isolated": (0.1, 1.0, 10.0), "ordinary": (0.1, 0.5, 1.0, 2.0, 5.0), "contradicted": (0.1, 1.0, 5.0)}
NOISE_MULTIPLIERS = (6.32, 2.11)
REFERENCE: dict[
    str, dict[float, tuple[float, ...]]
] = {  # AUCs: K = 1, 16, 256 and weights; in the control 256, weights
    "ordinary": {
        0.1: (0.900, 0.999, 1.000, 1.000),
        0.5: (0.635, 0.794, 0.877, 1.000),
        1.0: (0.580, 0.736, 0.878, 0.997),
        2.0: (0.548, 0.642, 0.745, 0.986),
        5.0: (0.508, 0.501, 0.511, 0.855),
    },
    "control": {6.32: (0.669, 0.584), 2.11: (0.893, 0.868)},
}


@dataclass(frozen=True)
class Choices:
    """What the earlier run leaves open.

    Args:
        seed: of records and weights.
        spread: standard deviation of the inputs of the 20 records.
        canary_spread: of the canary's.
        stem: standard deviation of the entries of W at the start.
        drift: of A.
        head: of C; its bias starts at 0.
    """

    seed: int = 497
    spread: float = 1.8
    canary_spread: float = 1.25
    stem: float = 0.35
    drift: float = 0.5
    head: float = 0.27


class Toy(NamedTuple):
    """Records [21, inputs] and labels [21], the canary last, and the weights that every training starts from."""

    x: torch.Tensor
    y: torch.Tensor
    start: dict[str, torch.Tensor]

    def world(self, canary: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Records and labels of the world with the canary, or of the one without it."""
        rows = RECORDS + 1 if canary else RECORDS
        return self.x[:rows], self.y[:rows]


class Trained(NamedTuple):
    """Weights [trainings, ...] by name, and losses of the canary [trainings, 256], one per draw of the noise."""

    weights: dict[str, torch.Tensor]
    losses: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """[trainings, weights]."""
        return torch.cat([w.flatten(1) for w in self.weights.values()], dim=1).numpy()


def toy(choices: Choices, *, isolated: bool = False) -> Toy:
    """Inputs are normal, labels fair coins: every record can only be learned by heart. The canary is one more."""
    rng = np.random.default_rng(choices.seed)
    x = rng.normal(size=(RECORDS, INPUTS)) * choices.spread
    y = rng.integers(0, CLASSES, RECORDS)
    x = np.vstack([x, rng.normal(size=INPUTS) * choices.canary_spread])
    y = np.append(y, rng.integers(0, CLASSES))
    if isolated:
        x[:, ISOLATED] = np.append(np.zeros(RECORDS), 1.0)
    start = {
        "W": rng.normal(size=(WIDTH, INPUTS)) * choices.stem,
        "A": rng.normal(size=(WIDTH, WIDTH)) * choices.drift,
        "C": rng.normal(size=(CLASSES, WIDTH)) * choices.head,
        "c": np.zeros(CLASSES),
    }
    tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in start.items()}
    return Toy(torch.tensor(x, dtype=torch.float32), torch.tensor(y), tensors)


def logits(weights: Mapping[str, torch.Tensor], x: torch.Tensor, sigma: float, noise: torch.Generator) -> torch.Tensor:
    """[models, rows, classes]: h_0 = W x, dh = tanh(A h) dt + sigma dW by Euler-Maruyama, C h_N + c.

    Args:
        weights: [models, ...] by name.
        x: [rows, inputs], or [models, rows, inputs].
        sigma: of the diffusion.
        noise: where the increments come from.
    """
    h, dt = x @ weights["W"].mT, HORIZON / GRID
    for _ in range(GRID):
        drift = torch.tanh(h @ weights["A"].mT)
        h = h + dt * drift + sigma * math.sqrt(dt) * torch.randn(h.shape, generator=noise)
    return h @ weights["C"].mT + weights["c"][:, None]


def losses(weights: Mapping[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, sigma: float, noise) -> torch.Tensor:
    """[models, rows]."""
    answers = logits(weights, x, sigma, noise)
    return cross_entropy(answers.flatten(0, 1), y.expand(answers.shape[:2]).flatten(), reduction="none").view(
        answers.shape[:2]
    )


def mean_gradient(weights: dict[str, torch.Tensor], x, y, sigma: float, noise) -> dict[str, torch.Tensor]:
    """Of the loss, added up over the records and divided by their public number."""
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    total = losses(leaves, x, y, sigma, noise).sum() / RECORDS
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def private_gradient(weights: dict[str, torch.Tensor], x, y, sigma: float, noise, multiplier: float):
    """The same with each record's gradient clipped to norm 1, and Gaussian noise on the sum."""
    models, rows = len(weights["c"]), len(x)
    leaves = {name: w.detach().repeat_interleave(rows, 0).requires_grad_() for name, w in weights.items()}
    total = losses(leaves, x.repeat(models, 1)[:, None], y.repeat(models)[:, None], sigma, noise).sum()
    own = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    norms = torch.cat([g.flatten(1) for g in own.values()], dim=1).norm(dim=1)
    factors = (CLIP / norms).clamp(max=1.0)
    released = {}
    for name, g in own.items():
        clipped = (g.flatten(1) * factors[:, None]).view(models, rows, *g.shape[1:]).sum(dim=1)
        released[name] = (clipped + multiplier * CLIP * torch.randn(clipped.shape, generator=noise)) / RECORDS
    return released


def trained(task: Toy, sigma: float, trainings: int, *, canary: bool, seed: int, multiplier: float = 0.0) -> Trained:
    """Networks trained in one world, and what the canary's loss is in 256 draws of their noise."""
    parts = []
    for first in range(0, trainings, CHUNK):
        noise = torch_stream(seed, "training", repr(sigma), repr(multiplier), int(canary), first)
        parts.append(_chunk(task, sigma, min(CHUNK, trainings - first), noise, canary, multiplier))
    weights = {name: torch.cat([part.weights[name] for part in parts]) for name in task.start}
    return Trained(weights, np.concatenate([part.losses for part in parts]))


def _chunk(task: Toy, sigma: float, models: int, noise: torch.Generator, canary: bool, multiplier: float) -> Trained:
    x, y = task.world(canary)
    weights = {name: w.repeat(models, *(1 for _ in w.shape)) for name, w in task.start.items()}
    for _ in range(STEPS):
        if multiplier:
            gradient = private_gradient(weights, x, y, sigma, noise, multiplier)
        else:
            gradient = mean_gradient(weights, x, y, sigma, noise)
        weights = {name: w - LR * gradient[name] for name, w in weights.items()}
    with torch.no_grad():
        asked = losses(weights, task.x[-1:].repeat(DRAWS[-1], 1), task.y[-1:], sigma, noise)
    return Trained(weights, asked.numpy())


class Attacked(NamedTuple):
    """How well scores tell the worlds apart: AUC, and the lower bound on epsilon."""

    auc: float
    bound: EpsilonBound


def attacked(inside: np.ndarray, outside: np.ndarray, seed: int) -> Attacked:
    """From scores, one per training, larger where the canary seems in."""
    bound = clopper_pearson_bound(
        inside, outside, HalfSplit(), independent_trials=True, delta=DELTA, rng=stream(seed, "threshold")
    )
    return Attacked(float(auc(inside, outside)), bound)


def by_loss(inside: Trained, outside: Trained, draws: int, seed: int) -> Attacked:
    """Minus the canary's loss, averaged over so many draws."""
    return attacked(-inside.losses[:, :draws].mean(axis=1), -outside.losses[:, :draws].mean(axis=1), seed)


def by_weights(inside: Trained, outside: Trained, seed: int) -> Attacked:
    """A linear discriminant on all weights, fitted on the first half of the trainings of each world."""
    half = len(inside.losses) // 2
    known = np.concatenate([inside.flat[:half], outside.flat[:half]])
    fitted = LinearDiscriminantAnalysis().fit(known, np.repeat([1, 0], half))
    return attacked(fitted.decision_function(inside.flat[half:]), fitted.decision_function(outside.flat[half:]), seed)


def isolated_row(choices: Choices, sigma: float, trainings: int, seed: int) -> dict:
    """One row of the first table."""
    task = toy(choices, isolated=True)
    start = task.start["W"].numpy()
    inside, outside = (
        column_shift(start, trained(task, sigma, trainings, canary=here, seed=seed).weights["W"].numpy(), ISOLATED)
        for here in (True, False)
    )
    found = attacked(inside, outside, seed)
    return {
        "sigma": sigma,
        "least_with_canary": float(inside.min()),
        "most_without": float(outside.max()),
        "auc": found.auc,
        "epsilon_lower": found.bound.value,
        "ceiling": found.bound.ceiling,
    }


def ordinary_row(choices: Choices, sigma: float, trainings: int, seed: int) -> dict:
    """One row of the second table."""
    return _asked_row(toy(choices), sigma, trainings, seed, REFERENCE["ordinary"].get(sigma))


def contradicted_row(choices: Choices, sigma: float, trainings: int, seed: int) -> dict:
    """One row of the third table."""
    task = toy(choices)
    return _asked_row(task._replace(y=torch.cat([task.y[:-1], 1 - task.y[-1:]])), sigma, trainings, seed, None)


def _asked_row(task: Toy, sigma: float, trainings: int, seed: int, reference: tuple[float, ...] | None) -> dict:
    inside, outside = (trained(task, sigma, trainings, canary=here, seed=seed) for here in (True, False))
    found = {f"K={k}": by_loss(inside, outside, k, seed) for k in DRAWS} | {
        "weights": by_weights(inside, outside, seed)
    }
    tended = float(np.exp(-outside.losses).mean())
    return {"sigma": sigma, "probability_without": tended, **_shown(found, reference)}


def control_row(choices: Choices, multiplier: float, trainings: int, seed: int) -> dict:
    """One row of the last table. Full batches, so the steps compose to one Gaussian mechanism exactly."""
    task = toy(choices)
    inside, outside = (
        trained(task, CONTROL_SIGMA, trainings, canary=here, seed=seed, multiplier=multiplier) for here in (True, False)
    )
    mu = math.sqrt(STEPS) / multiplier
    found = {"K=256": by_loss(inside, outside, 256, seed), "weights": by_weights(inside, outside, seed)}
    return {
        "noise_multiplier": multiplier,
        "epsilon_theory": mu_to_epsilon(mu, DELTA),
        "auc_allowed": 0.5 * math.erfc(-mu / 2),
        **_shown(found, REFERENCE["control"].get(multiplier)),
    }


def _shown(found: Mapping[str, Attacked], reference: tuple[float, ...] | None) -> dict:
    return {
        "auc": {name: one.auc for name, one in found.items()},
        "reference_auc": None if reference is None else dict(zip(found, reference, strict=True)),
        "epsilon_lower": {name: one.bound.value for name, one in found.items()},
        "ceiling": {name: one.bound.ceiling for name, one in found.items()},
    }


def tables(choices: Choices, trainings: int, seed: int) -> dict:
    """All tables, with progress on stderr."""
    found: dict = {"choices": asdict(choices), "trainings_per_world": trainings, "delta": DELTA, "seed": seed}
    for name, row, values in (
        ("isolated", isolated_row, SIGMAS["isolated"]),
        ("ordinary", ordinary_row, SIGMAS["ordinary"]),
        ("contradicted", contradicted_row, SIGMAS["contradicted"]),
        ("control", control_row, NOISE_MULTIPLIERS),
    ):
        found[name] = []
        for value in values:
            print(f"{name}: {value:g} ...", file=sys.stderr, flush=True)
            found[name].append(row(choices, value, trainings, seed))
    return found | {"largest_auc_difference": largest_difference(found)}


def largest_difference(found: Mapping) -> float:
    """From the reference, over all its cells."""
    rows = [row for name in REFERENCE for row in found[name]]
    return max(abs(row["auc"][cell] - value) for row in rows for cell, value in row["reference_auc"].items())


def text(found: Mapping) -> str:
    """The tables as lines of text."""
    lines = ["sigma  least with  most without  AUC    epsilon >=  (ceiling)"]
    for row in found["isolated"]:
        lines.append(
            f"{row['sigma']:<5g}  {row['least_with_canary']:<10.3g}  {row['most_without']:<12.3g}  {row['auc']:.3f}  "
            f"{row['epsilon_lower']:<10.2f}  ({row['ceiling']:.2f})"
        )
    for name, key in (("ordinary", "sigma"), ("contradicted", "sigma"), ("control", "noise_multiplier")):
        cells = list(found[name][0]["auc"])
        lines += ["", f"{name + ', ' + key:<25}  " + "  ".join(f"{cell + ' (ref.)':<15}  eps >=" for cell in cells)]
        lines += [f"{row[key]:<25g}  " + "  ".join(_cell(row, cell) for cell in cells) for row in found[name]]
    lines += [
        f"{row['noise_multiplier']}: epsilon {row['epsilon_theory']:.2f} in theory, AUC below {row['auc_allowed']:.3f}"
        for row in found["control"]
    ]
    return "\n".join([*lines, "", f"Largest difference of an AUC: {found['largest_auc_difference']:.3f}"])


def _cell(row: Mapping, cell: str) -> str:
    reference = "" if row["reference_auc"] is None else f"({row['reference_auc'][cell]:.3f})"
    return f"{row['auc'][cell]:.3f} {reference:<9}  {row['epsilon_lower'][cell]:<6.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--trainings", type=int, default=2000, help="in each world")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings' noise")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = tables(Choices(), args.trainings, args.seed)
    print(json.dumps(found) if args.json else text(found))


if __name__ == "__main__":
    main()
