"""DMP: distillation for membership privacy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import log_softmax

from sfumato.training.defence import ReferenceDefence
from sfumato.training.draws import Draws
from sfumato.training.seen import Seen
from sfumato.training.workshop import Workshop
from sfumato.validate import at_least, in_range, one_of, positive

SELECTIONS = ("random", "low-entropy")


@dataclass(frozen=True, kw_only=True)
class DMP(ReferenceDefence):
    """Releases a student that has seen reference records and a teacher's answers to them, and nothing else.

    The teacher is trained on the training records. The student is trained on reference records with soft labels, the
    teacher's answers at a temperature; it is not shown a training record, nor a label but those of validation records,
    where the task stops early by them (Shejwalkar and Houmansadr, 2021). Its loss is the inner defence's of its answers
    at that temperature: for cross-entropy that is the Kullback-Leibler divergence from the teacher and a constant, so
    its gradient is that of the divergence. What the teacher remembers of training records can still reach the student
    through near copies of them in the reference data. The variant that makes its reference data with a generative
    network is not here.

    Args:
        temperature: of both answers, above 0; 1 in the authors' notebook.
        selection: of reference records: "random", as in the authors' notebook, or "low-entropy", those that the teacher
            answers with most certainty.
        share: of the reference records that is used, in (0, 1]; at 1 both selections take all.
        teacher_epochs: None for the task's.
        student_epochs: None for the task's.
    """

    name: ClassVar[str] = "dmp"
    reference: ClassVar[str] = "shejwalkar2021membership"
    summary: ClassVar[str] = "Distils a teacher into a student by its answers to reference records alone."
    bibtex: ClassVar[str] = """@inproceedings{shejwalkar2021membership,
  author = {Shejwalkar, Virat and Houmansadr, Amir},
  title = {Membership Privacy for Machine Learning Models Through Knowledge Transfer},
  booktitle = {AAAI Conference on Artificial Intelligence},
  year = {2021}
}"""
    canary: ClassVar[str] = "near-duplicate"

    temperature: float = 1.0
    selection: str = "random"
    share: float = 1.0
    teacher_epochs: int | None = None
    student_epochs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature)
        one_of("selection", self.selection, SELECTIONS)
        positive("share", self.share)
        in_range("share", self.share, 0, 1)
        for name in ("teacher_epochs", "student_epochs"):
            epochs = getattr(self, name)
            if epochs is not None:
                at_least(name, epochs, 1)

    @property
    def trainings(self) -> float:
        return 1 + self.share * self.reference_fraction / (1 - self.reference_fraction)

    def course(self, workshop: Workshop) -> nn.Module:
        rows = workshop.reference_rows
        logits = workshop.answers_after("teacher", workshop.network("teacher"), rows, epochs=self.teacher_epochs)
        kept = selected(logits, self.selection, self.share, workshop.draws.at("selection"))
        labels = torch.full_like(workshop.targets, math.nan)  # so that nothing can be learned from any other row
        labels[rows] = softened(logits, self.temperature)

        def objective(seen: Seen) -> torch.Tensor:
            return workshop.objective(seen.having(seen.outputs / self.temperature, seen.targets))

        return workshop.fit(
            "student",
            workshop.network(),
            rows=rows[kept],
            targets=labels,
            epochs=self.student_epochs,
            objective=objective,
        )


def softened(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Softmax of logits [rows, classes] over the temperature; [rows, classes]."""
    return log_softmax(logits / temperature, dim=1).exp()


def selected(logits: torch.Tensor, selection: str, share: float, draws: Draws) -> torch.Tensor:
    """Which of some records are used: positions, int64 [round(share * rows)], at least one, in rising order.

    Args:
        logits: of the teacher, [rows, classes].
        selection: "random", or "low-entropy".
        share: in (0, 1].
        draws: for "random".
    """
    count = max(1, round(share * len(logits)))
    if selection == "random":
        order = draws.permutation("order", len(logits))[0]
    else:
        logs = log_softmax(logits, dim=1)
        order = (-(logs.exp() * logs).sum(dim=1)).argsort(stable=True)
    return order[:count].sort().values
