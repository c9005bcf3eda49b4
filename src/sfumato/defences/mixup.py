"""Mixup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.training.defence import Batch, Defence
from sfumato.training.draws import Draws, fold_indices
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class Mixup(Defence):
    """Trains on convex combinations of pairs of records and of their labels (Zhang et al., 2018, equation 2).

    Pairs are a record and its image under a random permutation of the batch; one weight from Beta(alpha, alpha) serves
    a whole batch, as in the paper's own code. Each model mixes within its own batch, with its own weight.

    Args:
        alpha: of the Beta distribution, above 0.
    """

    name: ClassVar[str] = "mixup"
    reference: ClassVar[str] = "zhang2018mixup"
    summary: ClassVar[str] = "Trains on weighted averages of pairs of records and of their labels."
    bibtex: ClassVar[str] = """@inproceedings{zhang2018mixup,
  author = {Zhang, Hongyi and Ciss{\\'e}, Moustapha and Dauphin, Yann N. and Lopez-Paz, David},
  title = {mixup: Beyond Empirical Risk Minimization},
  booktitle = {International Conference on Learning Representations},
  year = {2018}
}"""

    couples: ClassVar[str] = "it mixes records of the batch with each other, so clipping one bounds nobody's influence"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)

    def transform(self, batch: Batch, draws: Draws) -> Batch:
        size = len(batch.x) // draws.models
        weight = draws.beta("mixup-weight", self.alpha, self.alpha).repeat_interleave(size)
        partner = fold_indices(draws.permutation("mixup-partner", size))
        return Batch(mixed(batch.x, partner, weight), mixed(batch.targets, partner, weight))


def mixed(values: torch.Tensor, partner: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """weight[i] * values[i] + (1 - weight[i]) * values[partner[i]], along the first axis.

    Args:
        values: [rows, ...].
        partner: int64 [rows].
        weight: [rows], in [0, 1].
    """
    shape = (-1, *(1 for _ in values.shape[1:]))
    weight = weight.to(device=values.device, dtype=values.dtype).view(shape)
    return weight * values + (1 - weight) * values[partner.to(values.device)]
