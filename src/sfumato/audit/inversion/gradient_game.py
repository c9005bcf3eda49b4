"""The gradient game: which records were in the batch whose update was seen?

Batches are drawn from the training records; the update of each is what a training step would share. Beside it stand
other training records of the same classes that were in no batch: they are as likely as the true ones to whoever has not
seen the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sfumato.attacks.inversion.evidence import GradientEvidence, PrivateStep
from sfumato.audit.inversion.shared_step import StepMaker, step_maker
from sfumato.data.population import Population
from sfumato.errors import NotApplicable, UsageError
from sfumato.private.plan import Plan
from sfumato.seeding import derive, stream
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import image_box
from sfumato.targets.surroundings import box_of
from sfumato.training.recipe import AnyRecipe
from sfumato.training.trained import Trained
from sfumato.types import Floats, Ints, Rows
from sfumato.validate import at_least, one_of

LEVELS = ("record", "unit")


@dataclass(frozen=True, eq=False)
class GradientRounds:
    """Some updates, and what was in them.

    Args:
        evidence: what the attacker sees; q updates.
        truth: float32 [q, b, *shape], the records of each batch; NaN beyond its size.
        true_labels: int64 [q, b]; -1 beyond its size.
        others: float32 [q, c, *shape], training records of the same classes in no batch; NaN for missing ones.
        other_labels: int64 [q, c], their classes; -1 for missing ones.
    """

    evidence: GradientEvidence
    truth: Floats
    true_labels: Ints
    others: Floats
    other_labels: Ints


class Stack(NamedTuple):
    """Records float32 [q, b, *shape] and their labels int64 [q, b]; NaN and -1 beyond a size."""

    records: Floats
    labels: Ints


def gradient_rounds(
    recipe: AnyRecipe,
    trained: Trained | None,
    population: Population,
    rows: Rows,
    sizes: Sequence[int],
    steps: int,
    seed: int,
    *,
    level: str = "record",
    others: int = 255,
    labels_known: bool = False,
    box: Box | None = None,
    public: Population | None = None,
) -> GradientRounds:
    """Draw batches and compute what a training step on each of them shares.

    Args:
        recipe: of the training.
        trained: weights at which the steps are taken; None for fresh ones, which give the most away.
        population: all records.
        rows: int64 [k], the model's training set.
        sizes: of the batches: records, or units at level "unit".
        steps: batches of each size.
        seed: of the batches, the noise, fresh weights, and of the attacker's own streams.
        level: "record": a batch is so many records; "unit": all records of so many units (a client's step on its own).
        others: how many other records of each of its classes stand beside a batch, at most.
        labels_known: whether the attacker knows the labels of the batch.
        box: the range of values; by default 0 to 1 for pictures, else that of all records, which is more than an
            attacker may know.
        public: records that the attacker has, or None.

    Raises:
        NotApplicable: if a step of this recipe cannot be reproduced by itself, or protects whole units where single
            records were asked for.
        UsageError: if there are too few records for the batches and others beside them.
    """
    one_of("level", level, LEVELS)
    at_least("steps", steps, 1)
    maker = _maker(recipe, trained, population, rows, seed, level)
    rounds = drawn_rounds(population, maker.rows, sizes, steps, seed, level)
    updates = tuple(
        _update(maker, population, one, derive(seed, "gradient", "step", place)) for place, one in enumerate(rounds)
    )
    true = _stacked(population, rounds)
    beside = _stacked(population, _others(population, maker.rows, rounds, others, seed, level))
    evidence = GradientEvidence(
        network=maker.network,
        updates=updates,
        sizes=np.array([len(one) for one in rounds], dtype=np.int64),
        shape=population.records.shape,
        classes=population.classes,
        box=box or _box(population),
        labels=true.labels if labels_known else None,
        public=public,
        seed=derive(seed, "gradient", "attacker"),
        private=None if maker.plan is None else _private(maker.plan),
        loss=maker.objective,
    )
    return GradientRounds(evidence, true.records, true.labels, beside.records, beside.labels)


def drawn_rounds(
    population: Population, rows: Rows, sizes: Sequence[int], steps: int, seed: int, level: str = "record"
) -> list[Rows]:
    """Batches without a common record, `steps` of each size: rows of the population, int64 [size] each.

    Args:
        population: all records.
        rows: int64 [k], to draw from.
        sizes: see `gradient_rounds`.
        steps: likewise.
        seed: likewise.
        level: likewise.

    Raises:
        UsageError: if there are fewer records, or units, than all batches take with one left over.
    """
    for size in sizes:
        at_least("sizes", size, 1)
    thing = np.arange(len(rows)) if level == "record" else population.unit_of[rows]
    order = stream(seed, "gradient", "batches").permutation(np.unique(thing))
    ends = np.cumsum([size for size in sizes for _ in range(steps)])
    if not len(ends) or ends[-1] >= len(order):
        raise UsageError(
            f"Expected more than {int(ends[-1]) if len(ends) else 0} training {level}s for batches of sizes "
            f"{tuple(sizes)}, {steps} of each, and others beside them, got {len(order)}.",
            remedy="Use smaller or fewer batches.",
        )
    parts = np.split(order[: ends[-1]], ends[:-1])
    return [rows[np.isin(thing, part)] for part in parts]


def _maker(
    recipe: AnyRecipe, trained: Trained | None, population: Population, rows: Rows, seed: int, level: str
) -> StepMaker:
    """Refuses single records of steps that take all records of a unit together."""
    maker = step_maker(recipe, trained, population, rows, seed)
    several = len(population) > population.units
    if level == "record" and several and maker.plan is not None and maker.plan.max_records_per_unit > 1:
        raise NotApplicable(f"needs steps on single records, got steps on all records of one {population.unit.name}")
    return maker


def _update(maker: StepMaker, population: Population, one: Rows, seed: int) -> dict[str, torch.Tensor]:
    labels = population.label_array[one]
    units = np.unique(population.unit_of[one], return_inverse=True)[1].astype(np.int64)
    return maker.update(population.tensor(one), torch.from_numpy(labels.astype(np.int64)), units, seed)


def _private(plan: Plan) -> PrivateStep:
    """What everybody may know of a private step."""
    return PrivateStep(plan.clipping, plan.expected_batch_size, together=plan.max_records_per_unit > 1)


def _others(population: Population, rows: Rows, rounds: Sequence[Rows], most: int, seed: int, level: str) -> list[Rows]:
    """For each batch other training records of its classes, at most so many of each, the classes in turn."""
    at_least("others", most, 1)
    kind = np.arange(len(population)) if level == "record" else population.unit_of
    taken = np.isin(kind[rows], kind[np.concatenate(rounds)])
    free = rows[~taken]
    found = []
    for place, one in enumerate(rounds):
        pool = free[np.isin(population.label_array[free], population.label_array[one])]
        pool = stream(seed, "gradient", "others", place).permutation(pool)
        turn = _occurrence(population.label_array[pool])
        order = np.argsort(turn, kind="stable")
        found.append(pool[order[turn[order] < most]])
    if any(not len(one) for one in found):
        raise UsageError(
            "Expected training records of the classes of each batch that are in no batch, got a batch without any.",
            remedy="Use smaller or fewer batches.",
        )
    return found


def _occurrence(labels: Ints) -> Ints:
    """int64 [n]: how often each label came before."""
    order = np.argsort(labels, kind="stable")
    grouped, before = labels[order], np.empty(len(labels), dtype=np.int64)
    before[order] = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return before


def _stacked(population: Population, rounds: Sequence[Rows]) -> Stack:
    most = max(len(one) for one in rounds)
    records = np.full((len(rounds), most, *population.records.shape), np.nan, dtype=np.float32)
    labels = np.full((len(rounds), most), -1, dtype=np.int64)
    for place, one in enumerate(rounds):
        records[place, : len(one)] = population.tensor(one).numpy()
        labels[place, : len(one)] = population.label_array[one]
    return Stack(records, labels)


def _box(population: Population) -> Box:
    return image_box(population.records.shape) if len(population.records.shape) == 3 else box_of(population)
