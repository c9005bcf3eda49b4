"""Negative label smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.errors import UsageError
from sfumato.training.defence import Defence
from sfumato.training.losses import log_probabilities
from sfumato.training.seen import Objective, Seen
from sfumato.validate import one_of

SCHEDULES = ("published", "constant")
RISING, FULL = "negative smoothing, rising", "negative smoothing, in full"


@dataclass(frozen=True, kw_only=True)
class NegativeLabelSmoothing(Defence):
    """Minimises (1 - a) * NLL - a * mean log p with a below 0 (Struppek, Hintersdorf and Kersting, 2024).

    The mean is over the classes: labels are pushed away from the uniform distribution, where ordinary label smoothing,
    which helps the attacker, mixes them with it. The official code's schedule over 100 epochs is scaled to the task's:
    0 in the first half, rising to a / 2 in the third quarter, then a. The objective of the inner defence stands where
    NLL does. With one epoch there is no smoothing at all, and the record says so.

    The loss has no lower bound once a is in force: with K classes and a margin m between the label's logit and the
    others, it falls like a * m * (K - 1) / K. Weight decay and a short last quarter hold it.

    By the authors' own words in the public review it loses about 3.5 points on the test set of CelebA.

    Args:
        smoothing: a, below 0; -0.05 in the official code.
        schedule: "published", or "constant" for a from the first epoch on.
    """

    name: ClassVar[str] = "negative-label-smoothing"
    reference: ClassVar[str] = "struppek2024smooth"
    summary: ClassVar[str] = "Pushes labels away from the uniform distribution in the second half of the training."
    bibtex: ClassVar[str] = """@inproceedings{struppek2024smooth,
  author = {Struppek, Lukas and Hintersdorf, Dominik and Kersting, Kristian},
  title = {Be Careful What You Smooth For: Label Smoothing Can Be a Privacy Shield but Also a Catalyst for Model
           Inversion Attacks},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}"""

    smoothing: float = -0.05
    schedule: str = "published"

    def __post_init__(self) -> None:
        if not (self.smoothing < 0 and math.isfinite(self.smoothing)):
            raise UsageError(
                f"Expected `smoothing` below 0 for {self.name}, got {self.smoothing!r}.",
                remedy="Use -0.05, or the defence `label-smoothing` for values above 0.",
            )
        one_of("schedule", self.schedule, SCHEDULES)

    @property
    def branches(self) -> tuple[str, ...]:  # type: ignore[override] - depends on the schedule
        """Of the objective."""
        return (RISING, FULL) if self.schedule == "published" else (FULL,)

    def objective(self, seen: Seen, inner: Objective) -> torch.Tensor:
        share = scheduled(seen.epoch, seen.epochs) if self.schedule == "published" else 1.0
        if share > 0:
            seen.count(FULL if share == 1 else RISING, torch.ones(len(seen.outputs), dtype=torch.bool))
        return smoothed_away(inner(seen), seen.outputs, share * self.smoothing)


def scheduled(epoch: int, epochs: int) -> float:
    """The share of the smoothing in an epoch counted from 0: 0, then rising to a half, then 1.

    Over 100 epochs these are the official code's numbers: (epoch - 49) / 50 in the epochs 50 to 74.
    """
    if 2 * epoch < epochs:
        return 0.0
    return 2 * (epoch + 1) / epochs - 1 if 4 * epoch < 3 * epochs else 1.0


def smoothed_away(values: torch.Tensor, outputs: torch.Tensor, smoothing: float) -> torch.Tensor:
    """(1 - a) * values - a * mean log p, [rows].

    Args:
        values: NLL, or what stands in its place, [rows].
        outputs: of either head, [rows, outputs].
        smoothing: a.
    """
    if smoothing == 0:
        return values
    return (1 - smoothing) * values - smoothing * log_probabilities(outputs).mean(dim=1)
