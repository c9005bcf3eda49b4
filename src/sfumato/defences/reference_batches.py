"""What defences with reference data share: batches of it, and where in a training a step stands."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from sfumato.training.draws import Draws
from sfumato.training.loop import Step
from sfumato.training.seen import Seen
from sfumato.training.workshop import Workshop


class Position(NamedTuple):
    """A step of a training: epoch, and number of the step within it, both counted from 0."""

    epoch: int
    step: int


def position(workshop: Workshop, done: float) -> Position:
    """The step that is next when a share `done` of a training over the rows to fit lies behind."""
    steps = -(-len(workshop.fit_rows) // workshop.task.batch_size)
    return Position(*divmod(round(done * workshop.task.epochs * steps), steps))


def reference_batch(workshop: Workshop, size: int, draws: Draws) -> torch.Tensor:
    """int64 [size]: reference rows at random; none comes twice before all have come."""
    rows = workshop.reference_rows
    order = draws.permutation("reference", len(rows))[0]
    return rows[order[torch.arange(size) % len(rows)]]


def seen_beside(workshop: Workshop, step: Step, rows: torch.Tensor) -> Seen:
    """The same step for other records: a second pass with gradient, augmented and transformed alike.

    Its branches are not counted: those of the step itself are.

    Args:
        workshop: of the course.
        step: after its own pass.
        rows: int64 [k].
    """
    draws = step.draws.at("beside")
    seen = workshop.seen(step.network, workshop.batch(rows, draws), draws, step.seen.epoch, step.seen.epochs)
    return replace(seen, extras=step.seen.extras, tally=None)
