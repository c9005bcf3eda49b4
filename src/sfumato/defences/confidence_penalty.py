"""Confidence penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.training.defence import Defence, PerExampleLoss
from sfumato.training.losses import log_probabilities
from sfumato.validate import at_least


@dataclass(frozen=True, kw_only=True)
class ConfidencePenalty(Defence):
    """Rewards answers of high entropy (Pereyra et al., 2017, section 3): loss - strength * entropy.

    Args:
        strength: beta of the paper, at least 0.
    """

    name: ClassVar[str] = "confidence-penalty"
    reference: ClassVar[str] = "pereyra2017regularizing"
    summary: ClassVar[str] = "Subtracts a multiple of the entropy of the answer from the loss."
    bibtex: ClassVar[str] = """@inproceedings{pereyra2017regularizing,
  author = {Pereyra, Gabriel and Tucker, George and Chorowski, Jan and Kaiser, {\\L}ukasz and Hinton, Geoffrey},
  title = {Regularizing Neural Networks by Penalizing Confident Output Distributions},
  booktitle = {International Conference on Learning Representations, Workshop Track},
  year = {2017}
}"""

    strength: float = 0.1

    def __post_init__(self) -> None:
        at_least("strength", self.strength, 0)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inner: PerExampleLoss) -> torch.Tensor:
        return inner(outputs, targets) - self.strength * entropy(outputs)


def entropy(outputs: torch.Tensor) -> torch.Tensor:
    """Entropy of the predicted distribution in nats, [rows], from the outputs of either head."""
    logs = log_probabilities(outputs)
    return -(logs.exp() * logs).sum(dim=1)
