"""L1 penalty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from sfumato.training.defence import Defence
from sfumato.training.task import Task
from sfumato.validate import at_least


@dataclass(frozen=True, kw_only=True)
class L1(Defence):
    """Pulls every weight towards zero by the same amount (Tibshirani, 1996): loss + strength * sum of absolute weights.

    Its L2 sister is `weight-decay`.

    Args:
        strength: at least 0; replaces the task's own.
    """

    name: ClassVar[str] = "l1"
    reference: ClassVar[str] = "tibshirani1996regression"
    summary: ClassVar[str] = "Adds a multiple of the sum of absolute weights to the loss."
    bibtex: ClassVar[str] = """@article{tibshirani1996regression,
  author = {Tibshirani, Robert},
  title = {Regression Shrinkage and Selection via the Lasso},
  journal = {Journal of the Royal Statistical Society, Series B},
  volume = {58},
  number = {1},
  pages = {267--288},
  year = {1996}
}"""

    strength: float = 1e-3

    def __post_init__(self) -> None:
        at_least("strength", self.strength, 0)

    def configure(self, task: Task) -> Task:
        return replace(task, optimizer=replace(task.optimizer, l1=self.strength))
