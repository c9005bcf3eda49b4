"""Global clipping: a gradient beyond the bound is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.private.clipping.base import Clipping, ClippingState, total_norms
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class Global(Clipping):
    """c = 1 if ||g|| <= C, else 0 (Bu et al., arXiv 2106.07830).

    Args:
        max_grad_norm: C, above 0.
    """

    name: ClassVar[str] = "global"
    summary: ClassVar[str] = "Leaves out every gradient that is longer than the bound."
    reference: ClassVar[str] = "bu2023convergence"
    bibtex: ClassVar[str] = """@article{bu2023convergence,
  author = {Bu, Zhiqi and Wang, Hua and Dai, Zongyu and Long, Qi},
  title = {On the Convergence and Calibration of Deep Learning with Differential Privacy},
  journal = {Transactions on Machine Learning Research},
  year = {2023}
}"""

    max_grad_norm: float

    def __post_init__(self) -> None:
        positive("max_grad_norm", self.max_grad_norm)

    def initial_state(self, tensors: int) -> ClippingState:
        return ClippingState((self.max_grad_norm,))

    def _factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        return (total_norms(squared_norms) <= state.max_grad_norms[0]).double()
