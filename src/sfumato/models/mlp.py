"""Multi-layer perceptron, for tables and flattened images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import nn

from sfumato.models.base import ModelFamily
from sfumato.models.shape import flat_features, outputs_checked
from sfumato.validate import at_least, in_range, one_of

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class MLP(ModelFamily):
    """Linear layers with an activation between them. Images are flattened first.

    Args:
        hidden: width of each hidden layer; () for a linear model.
        activation: "relu", "tanh" or "gelu".
        dropout: rate after each hidden activation, in [0, 0.95]; 0 adds no layer.
    """

    name: ClassVar[str] = "mlp"
    reference: ClassVar[str] = "rumelhart1986learning"
    bibtex: ClassVar[str] = """@article{rumelhart1986learning,
  author = {Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.},
  title = {Learning Representations by Back-Propagating Errors},
  journal = {Nature},
  volume = {323},
  pages = {533--536},
  year = {1986}
}"""

    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for width in self.hidden:
            at_least("hidden", width, 1)
        one_of("activation", self.activation, ACTIVATIONS)
        in_range("dropout", self.dropout, 0, 0.95)

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        widths = (flat_features(self.name, shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), ACTIVATIONS[self.activation]()]
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
        return nn.Sequential(*layers, nn.Linear(widths[-1], outputs_checked(outputs)))
