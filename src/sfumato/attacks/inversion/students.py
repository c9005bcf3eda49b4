"""Stand-ins for the target that LOMMA averages its loss over, and what features of public records look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.evidence import ClassEvidence, Tell, silent
from sfumato.attacks.inversion.generators.training import (
    all_records,
    arrays_of,
    batches,
    descend,
    report,
    restored,
)
from sfumato.attacks.inversion.soft_labels import soft_labels
from sfumato.data.population import Population
from sfumato.models.base import ModelFamily
from sfumato.models.build import drawn_from
from sfumato.models.mlp import MLP
from sfumato.models.resnet import ResNet8
from sfumato.models.small_cnn import SmallCNN
from sfumato.models.standardise import Standardise
from sfumato.seeding import stream
from sfumato.targets.oracle import CHUNK, Oracle
from sfumato.types import Floats
from sfumato.validate import at_least, positive

SMALLEST = 8  # pixels a side, for a convolutional student
MOST_RECORDS = 5000  # public records whose features are looked at, as in the official code


class FeaturePrior(NamedTuple):
    """Mean and standard deviation of each penultimate feature of public records under the target, float32 [D]."""

    mean: torch.Tensor
    std: torch.Tensor


def distillation_loss(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Mean KL divergence of a student's softmax (temperature 1) from the target's: [b, classes] each to a scalar."""
    return nn.functional.kl_div(logits.log_softmax(dim=1), probabilities, reduction="batchmean")


def student_families(shape: tuple[int, ...]) -> tuple[ModelFamily, ...]:
    """Three small networks that differ in kind; for tables in depth, width and activation.

    The official code takes EfficientNet-B0, B1 and B2; ours stand in their place, as records are small here.
    """
    if len(shape) == 3 and min(shape[1:]) >= SMALLEST:
        return (SmallCNN(), MLP(hidden=(128,)), ResNet8(width=8, norm="group"))
    return (MLP(hidden=(128,)), MLP(hidden=(64, 64), activation="gelu"), MLP(hidden=(32, 32, 32), activation="tanh"))


@dataclass(frozen=True, eq=False, kw_only=True)
class StudentsFit(Fit):
    """Three networks that learn the target's probabilities on public records, as LOMMA's (Nguyen et al., CVPR 2023).

    KL divergence at temperature 1, SGD at 0.01 with momentum 0.9 and batches of 64, as in the official code, where it
    takes 20 passes; `epochs` is a quick number of ours, and so are the networks, see `student_families`.

    Args:
        public: what they learn on.
        oracle: the target.
        epochs: passes over the public records.
        batch: records a step.
        lr: learning rate.
        momentum: of SGD.
        seed: of weights and order.
        tell: hears how far it is; no part of the key.
    """

    public: Population
    oracle: Oracle
    epochs: int = 10
    batch: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    seed: int = 0
    tell: Tell = silent

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)
        at_least("batch", self.batch, 2)
        positive("lr", self.lr)

    def spec(self) -> dict[str, Any]:
        """What determines the result."""
        named = {name: getattr(self, name) for name in ("epochs", "batch", "lr", "momentum", "seed", "oracle")}
        families = student_families(tuple(self.oracle.shape))
        return named | {"public": self.public.fingerprint, "families": families}

    def run(self) -> dict[str, Floats]:
        oracle = self.oracle.restricted_to(self.oracle.access)  # counts from 0: the same answers again
        x = all_records(self.public)
        probabilities = soft_labels(oracle, x)
        students = _students(oracle, self.seed, _standards(x))
        for number, student in enumerate(students):
            self._distil(student, x, probabilities, number)
        named = {f"student-{number}": student for number, student in enumerate(students)}
        return arrays_of(named) | {"queries": np.array([oracle.queries], dtype=np.float32)}

    def _distil(self, student: nn.Module, x: torch.Tensor, probabilities: torch.Tensor, number: int) -> None:
        optimizer = torch.optim.SGD(student.parameters(), self.lr, self.momentum)
        order = batches(len(x), self.batch, self.seed, "student", number)
        steps = self.epochs * max(1, len(x) // self.batch)
        student.train()
        for step in range(steps):
            rows = next(order)
            loss = distillation_loss(student(x[rows]), probabilities[rows])
            descend(optimizer, loss, f"student {number + 1}, step {step}")
            report(self.tell, f"student {number + 1}", step, steps, loss)


def load_students(arrays: Mapping[str, Floats], evidence: ClassEvidence) -> list[nn.Module]:
    """The students in eval mode: records [b, *shape] to logits [b, classes], with a gradient by the record."""
    students = _students(evidence.oracle, 0, None)
    return [restored(student, arrays, f"student-{number}") for number, student in enumerate(students)]


def features_prior(evidence: ClassEvidence) -> FeaturePrior:
    """Of at most 5000 public records drawn at random; needs the weights. The queries are counted."""
    public = evidence.public_records
    rows = stream(evidence.seed, "features-prior").permutation(len(public))[:MOST_RECORDS]
    x = public.tensor(np.sort(rows))
    with torch.no_grad():
        parts = [evidence.oracle.passed(x[first : first + CHUNK]).features for first in range(0, len(x), CHUNK)]
    features = torch.cat(parts).float()
    return FeaturePrior(features.mean(dim=0), features.std(dim=0, correction=0))


def _students(oracle: Oracle, seed: int, standards: tuple[torch.Tensor, torch.Tensor] | None) -> list[nn.Module]:
    """Fresh students behind a fixed scaling by the public records' mean and standard deviation."""
    shape, students = tuple(oracle.shape), []
    mean, std = standards or (torch.zeros(shape[:1]), torch.ones(shape[:1]))
    for number, family in enumerate(student_families(shape)):
        with drawn_from(seed, "student", number):
            students.append(nn.Sequential(Standardise(mean, std), family.build(shape, oracle.classes)))
    return students


def _standards(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each column, or of each channel of pictures."""
    axes = tuple(axis for axis in range(x.dim()) if axis != 1)
    return x.mean(dim=axes), x.std(dim=axes, correction=0)
