"""Knowledge distillation on the training records themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import log_softmax

from sfumato.training.defence import Defence
from sfumato.training.loop import Hooks, Step
from sfumato.training.losses import two_column
from sfumato.training.workshop import Workshop
from sfumato.validate import at_least, in_range, positive


@dataclass(frozen=True, kw_only=True)
class Distillation(Defence):
    """Trains a student to agree with a teacher that was trained on the same records (Hinton et al., 2015, section 2).

    The student minimises alpha T^2 KL(teacher at temperature T || student at T) + (1 - alpha) times the objective of
    the chain. Both have the same layers, and initial weights of their own. The teacher has learned the records as an
    ordinary network does, and answers for them as they are trained on, augmented and transformed.

    Args:
        alpha: weight of the teacher, in [0, 1].
        temperature: T, above 0.
        teacher_epochs: None for the task's.
        student_epochs: None for the task's.
    """

    name: ClassVar[str] = "distillation"
    reference: ClassVar[str] = "hinton2015distilling"
    summary: ClassVar[str] = "Trains a student on the answers of a teacher that learned the same records."
    bibtex: ClassVar[str] = """@article{hinton2015distilling,
  author = {Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff},
  title = {Distilling the Knowledge in a Neural Network},
  journal = {arXiv preprint arXiv:1503.02531},
  year = {2015}
}"""

    alpha: float = 0.9
    temperature: float = 4.0
    teacher_epochs: int | None = None
    student_epochs: int | None = None

    def __post_init__(self) -> None:
        in_range("alpha", self.alpha, 0, 1)
        positive("temperature", self.temperature)
        for name in ("teacher_epochs", "student_epochs"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)

    @property
    def trainings(self) -> float:
        return 2.0 + 1 / 3  # the teacher runs forward once more in each step of the student

    def course(self, workshop: Workshop) -> nn.Module:
        wise = workshop.fit("teacher", workshop.network("teacher"), epochs=self.teacher_epochs)

        def backward(step: Step) -> torch.Tensor:
            given = workshop.answers(wise, step.batch.x)
            own = two_column(step.seen.outputs, workshop.task.head)
            loss = self.alpha * softened(own, given, self.temperature)
            loss = (loss + (1 - self.alpha) * workshop.objective(step.seen)).mean()
            loss.backward()
            return loss

        hooks = Hooks(backward=backward)
        return workshop.fit("student", workshop.network(), epochs=self.student_epochs, hooks=hooks)


def softened(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), in nats: T^2 keeps its gradients of one size whatever T.

    Args:
        student: logits [rows, classes].
        teacher: logits [rows, classes].
        temperature: T.

    Returns:
        [rows].
    """
    of_teacher, of_student = (log_softmax(logits / temperature, dim=1) for logits in (teacher, student))
    return temperature**2 * (of_teacher.exp() * (of_teacher - of_student)).sum(dim=1)
