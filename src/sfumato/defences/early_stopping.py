"""Early stopping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from sfumato.training.defence import Defence
from sfumato.training.task import Task
from sfumato.validate import at_least, in_range


@dataclass(frozen=True, kw_only=True)
class EarlyStopping(Defence):
    """Stops when the validation loss no longer improves, and keeps the best weights (Prechelt, 1998).

    The validation records come out of each model's own training set: they are read, and they shape the weights.

    Args:
        patience: epochs without a better validation loss before training stops, at least 1.
        validation_fraction: share of the training set (by unit) set aside, in [0.01, 0.5].
    """

    name: ClassVar[str] = "early-stopping"
    reference: ClassVar[str] = "prechelt1998early"
    summary: ClassVar[str] = "Stops training when the loss on set-aside records no longer improves."
    bibtex: ClassVar[str] = """@incollection{prechelt1998early,
  author = {Prechelt, Lutz},
  title = {Early Stopping --- But When?},
  booktitle = {Neural Networks: Tricks of the Trade},
  pages = {55--69},
  publisher = {Springer},
  year = {1998}
}"""

    patience: int = 3
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        at_least("patience", self.patience, 1)
        in_range("validation_fraction", self.validation_fraction, 0.01, 0.5)

    def configure(self, task: Task) -> Task:
        return replace(task, patience=self.patience, validation_fraction=self.validation_fraction)
