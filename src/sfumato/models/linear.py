"""Linear classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sfumato.models.base import ModelFamily
from sfumato.models.shape import flat_features, outputs_checked
from sfumato.validate import one_of

STARTS = ("random", "zero")


@dataclass(frozen=True, kw_only=True)
class LinearModel(ModelFamily):
    """One linear layer on the flattened record: logistic regression under the usual loss.

    Args:
        start: "random" (torch's default) or "zero". The loss is convex, so both find the same minimum; under a private
            update zero leaves the noise of the start away.
    """

    name: ClassVar[str] = "linear"
    reference: ClassVar[str] = "cox1958regression"
    bibtex: ClassVar[str] = """@article{cox1958regression,
  author = {Cox, David R.},
  title = {The Regression Analysis of Binary Sequences},
  journal = {Journal of the Royal Statistical Society, Series B},
  volume = {20},
  pages = {215--242},
  year = {1958}
}"""

    start: str = "random"

    def __post_init__(self) -> None:
        one_of("start", self.start, STARTS)

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        layer = nn.Linear(flat_features(self.name, shape), outputs_checked(outputs))
        if self.start == "zero":
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(nn.Flatten(), layer)
