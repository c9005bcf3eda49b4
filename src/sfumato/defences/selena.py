"""SELENA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.training.defence import Defence
from sfumato.training.draws import Draws
from sfumato.training.workshop import Workshop
from sfumato.validate import at_least


@dataclass(frozen=True, kw_only=True)
class SELENA(Defence):
    """Learns from what sub-models say about records that they were not trained on (Tang et al., USENIX Security 2022).

    Split-AI: each of K sub-models is trained on its own part of the training set, chosen so that each unit is left out
    of exactly L of them, as a whole. Self-distillation: the released network is trained on all training records with
    soft labels, for each record the mean softmax of the L sub-models that never saw it. It breaks where a near copy
    with another label exists: the copy teaches what the record's own sub-models were not to know.

    Sub-models and student are trained as the task and what this wraps say, each with initial weights of its own; soft
    labels are for the records without augmentation. Sub-models are thrown away once they were asked.

    Args:
        sub_models: K, at least 2.
        left_out: L, at least 1 and below K.
        sub_model_epochs: of each sub-model; None for the task's.
        student_epochs: of the released network; None for the task's.
    """

    name: ClassVar[str] = "selena"
    reference: ClassVar[str] = "tang2022mitigating"
    summary: ClassVar[str] = (
        "Learns soft labels from sub-models, each record's from those that were trained without it."
    )
    bibtex: ClassVar[str] = """@inproceedings{tang2022mitigating,
  author = {Tang, Xinyu and Mahloujifar, Saeed and Song, Liwei and Shejwalkar, Virat and Nasr, Milad and Houmansadr,
    Amir and Mittal, Prateek},
  title = {Mitigating Membership Inference Attacks by Self-Distillation Through a Novel Ensemble Architecture},
  booktitle = {USENIX Security Symposium},
  year = {2022}
}"""
    canary: ClassVar[str] = "near-duplicate"

    sub_models: int = 25
    left_out: int = 10
    sub_model_epochs: int | None = None
    student_epochs: int | None = None

    def __post_init__(self) -> None:
        at_least("sub_models", self.sub_models, 2)
        at_least("left_out", self.left_out, 1)
        if self.left_out >= self.sub_models:
            raise UsageError(
                f"Expected `left_out` below `sub_models`, got {self.left_out} of {self.sub_models}.",
                remedy="Some sub-models must learn from each record.",
            )
        for name in ("sub_model_epochs", "student_epochs"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)

    @property
    def trainings(self) -> float:
        return self.sub_models - self.left_out + 1.0

    def course(self, workshop: Workshop) -> nn.Module:
        rows = workshop.fit_rows
        out = exclusions(workshop.units(rows), self.sub_models, self.left_out, workshop.draws)
        answers = [self._asked(workshop, model, rows, out[:, model]) for model in range(self.sub_models)]
        targets = workshop.targets.clone()
        targets[rows] = teacher(answers, out)
        return workshop.fit("student", workshop.network(), targets=targets, epochs=self.student_epochs)

    def _asked(self, workshop: Workshop, model: int, rows: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """[number left out, classes]: logits of one sub-model for the records that it is trained without."""
        stage = f"sub-model {model + 1} of {self.sub_models}"
        network = workshop.network(stage)
        return workshop.answers_after(stage, network, rows[out], rows=rows[~out], epochs=self.sub_model_epochs)


def exclusions(units: torch.Tensor, sub_models: int, left_out: int, draws: Draws) -> torch.Tensor:
    """Which sub-models are trained without which record: each unit is left out of `left_out` of them, at random.

    Args:
        units: int64 [k], the unit of each record.
        sub_models: K.
        left_out: L.
        draws: streams of one model.

    Returns:
        bool [k, K], with L times True in each row, and equal rows for records of one unit.
    """
    names, unit = torch.unique(units, return_inverse=True)
    ranks = draws.uniform("left out", len(names), sub_models)[0].argsort(dim=1).argsort(dim=1)
    return (ranks < left_out)[unit]


def teacher(answers: list[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
    """The mean softmax of the sub-models that were trained without a record (Split-AI).

    Args:
        answers: for each of K sub-models its logits [number of records left out of it, classes], in order.
        out: bool [k, K], see `exclusions`.

    Returns:
        [k, classes]; each row sums to 1.
    """
    sums = answers[0].new_zeros(len(out), answers[0].shape[1])
    for model, logits in enumerate(answers):
        sums[out[:, model]] += torch.softmax(logits, dim=1)
    return sums / out.sum(dim=1, keepdim=True)
