"""Dropout before the classification layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sfumato.models.head import head_name, replace_layer
from sfumato.training.defence import Defence
from sfumato.validate import in_range


@dataclass(frozen=True, kw_only=True)
class Dropout(Defence):
    """Puts one dropout layer before the network's last linear layer, and nowhere else (Srivastava et al., 2014).

    Dropout layers that the network has already stay as they are. While the model answers, nothing is dropped.

    Args:
        rate: probability that a feature is dropped, in [0, 0.95].
    """

    name: ClassVar[str] = "dropout"
    reference: ClassVar[str] = "srivastava2014dropout"
    summary: ClassVar[str] = "Drops features before the last linear layer at random while training."
    bibtex: ClassVar[str] = """@article{srivastava2014dropout,
  author = {Srivastava, Nitish and Hinton, Geoffrey and Krizhevsky, Alex and Sutskever, Ilya and Salakhutdinov, Ruslan},
  title = {Dropout: A Simple Way to Prevent Neural Networks from Overfitting},
  journal = {Journal of Machine Learning Research},
  volume = {15},
  pages = {1929--1958},
  year = {2014}
}"""

    rate: float = 0.5

    def __post_init__(self) -> None:
        in_range("rate", self.rate, 0, 0.95)

    def prepare(self, model: nn.Module) -> nn.Module:
        name = head_name(model)
        return replace_layer(model, name, nn.Sequential(nn.Dropout(self.rate), model.get_submodule(name)))
