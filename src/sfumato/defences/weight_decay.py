"""Weight decay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from sfumato.training.defence import Defence
from sfumato.training.task import Task
from sfumato.validate import at_least


@dataclass(frozen=True, kw_only=True)
class WeightDecay(Defence):
    """Pulls every weight towards zero (Krogh and Hertz, 1992), by the optimiser.

    For "sgd" and "adam" this is an L2 penalty of weight_decay / 2 times the squared norm; for "adamw" it is decoupled
    from the gradient.

    Args:
        weight_decay: at least 0; replaces the task's own.
    """

    name: ClassVar[str] = "weight-decay"
    reference: ClassVar[str] = "krogh1992simple"
    summary: ClassVar[str] = "Pulls the weights towards zero at every step."
    bibtex: ClassVar[str] = """@inproceedings{krogh1992simple,
  author = {Krogh, Anders and Hertz, John A.},
  title = {A Simple Weight Decay Can Improve Generalization},
  booktitle = {Advances in Neural Information Processing Systems 4},
  pages = {950--957},
  year = {1992}
}"""

    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        at_least("weight_decay", self.weight_decay, 0)

    def configure(self, task: Task) -> Task:
        return replace(task, optimizer=replace(task.optimizer, weight_decay=self.weight_decay))
