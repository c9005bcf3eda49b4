"""A multi-layer perceptron for tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.mlp import MLP
from sfumato.training.presets.base import Preset


@dataclass(frozen=True, kw_only=True)
class TableMLP(Preset):
    """Two hidden layers on standardised columns; flattened images will do.

    Args:
        hidden: width of each hidden layer.
        activation: "relu", "tanh" or "gelu".
    """

    name: ClassVar[str] = "table-mlp"
    reference: ClassVar[str] = MLP.reference
    summary: ClassVar[str] = "Multi-layer perceptron (two hidden layers) on standardised columns."
    default_for: ClassVar[str] = "table"

    batch_size: int = 64
    hidden: tuple[int, ...] = (128, 64)
    activation: str = "relu"

    def model(self) -> ModelFamily:
        return MLP(hidden=self.hidden, activation=self.activation)
