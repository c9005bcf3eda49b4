"""What relaxed losses share: flattened labels, and which of three branches a step takes.

A relaxed loss is not driven to zero but held near a level: in every other epoch its distance to the level is minimised
(which is ascent below it), in the epochs between it is minimised above the level, and below it the answers are made to
fit flatter labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch

from sfumato.training.losses import two_column
from sfumato.training.seen import Seen

THRESHOLDS = ("batch", "example")
COUPLED = "it compares the mean over the batch with a level, so every example decides on the loss of all others"


class Branches(NamedTuple):
    """The names under which the branches of one relaxed loss are counted."""

    distance: str
    descent: str
    flattening: str


class Relaxation(NamedTuple):
    """When a branch is taken.

    Args:
        level: alpha, in the unit of the values.
        first_epoch: number of the first epoch, 0 or 1; even ones take the distance to the level.
        threshold: "batch": the mean over the batch is compared with the level; "example": each example's own value.
        branches: names for the tally.
    """

    level: float
    first_epoch: int
    threshold: str
    branches: Branches


def relaxed(seen: Seen, values: torch.Tensor, flattening: Callable[[], torch.Tensor], how: Relaxation) -> torch.Tensor:
    """The relaxed form of a loss, row by row.

    Args:
        seen: the pass: its epoch decides, its tally counts.
        values: the loss, [rows].
        flattening: makes the values of the third branch, [rows]; called only in epochs that may take it.
        how: see `Relaxation`.

    Returns:
        [rows]: |reached - level| in even epochs; else `values` where `reached` is above the level and `flattening()`
        where it is not, `reached` being the mean over the batch or the row's own value.
    """
    reached = seen.mean(values) if how.threshold == "batch" else values
    if (seen.epoch + how.first_epoch) % 2 == 0:
        seen.count(how.branches.distance, torch.ones_like(reached, dtype=torch.bool))
        return (reached - how.level).abs()
    above = reached > how.level
    seen.count(how.branches.descent, above)
    seen.count(how.branches.flattening, ~above)
    if how.threshold == "batch":  # a branch that no row takes need not be computed: the result is the same
        if above.all():
            return values
        if not above.any():
            return flattening()
    return torch.where(above, values, flattening())


def confidence(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Probability that the answer gives to the label, [rows]; for soft labels its mean under the label.

    Args:
        outputs: logits of either head, [rows, outputs].
        targets: soft labels [rows, classes].
    """
    head = "binary" if outputs.shape[1] == 1 else "multiclass"
    return (two_column(outputs, head).softmax(dim=1) * targets).sum(dim=1)


def held(values: torch.Tensor, upper: float, *, detach: bool) -> torch.Tensor:
    """Confidences clamped to [0, upper], without their gradient if asked."""
    return (values.detach() if detach else values).clamp(0, upper)


def flattened(targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Labels with this weight on the class of the label and the rest shared out among the others.

    Args:
        targets: [rows, classes]; for soft labels y the result is w y + (1 - w) (1 - y) / (classes - 1).
        weight: [rows], in [0, 1].

    Returns:
        [rows, classes], each row sums to 1.
    """
    top = weight.unsqueeze(1)
    rest = (1 - top) / (targets.shape[1] - 1)
    return rest + targets * (top - rest)


def against(seen: Seen, outputs: torch.Tensor, targets: torch.Tensor) -> Seen:
    """The pass with other outputs and labels, for an inner objective that is asked a second time: it counts nothing."""
    return replace(seen.having(outputs, targets), tally=None)
