"""Normalised gradients: every gradient is scaled to the bound, up or down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.private.clipping.base import Clipping, ClippingState, total_norms
from sfumato.validate import positive

SMALLEST = 1e-15  # shorter gradients have squares near the end of float32, so that their measured norm may be wrong


@dataclass(frozen=True, kw_only=True)
class Normalised(Clipping):
    """c = C / ||g||, and 0 for gradients shorter than 1e-15 (AUTO-V of Bu et al., arXiv 2206.07136).

    Args:
        max_grad_norm: C, above 0.
    """

    name: ClassVar[str] = "normalised"
    summary: ClassVar[str] = "Scales every gradient to the bound, short ones up."
    reference: ClassVar[str] = "bu2023automatic"
    bibtex: ClassVar[str] = """@inproceedings{bu2023automatic,
  author = {Bu, Zhiqi and Wang, Yu-Xiang and Zha, Sheng and Karypis, George},
  title = {Automatic Clipping: Differentially Private Deep Learning Made Easier and Stronger},
  booktitle = {Advances in Neural Information Processing Systems 36},
  year = {2023}
}"""

    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        positive("max_grad_norm", self.max_grad_norm)

    def initial_state(self, tensors: int) -> ClippingState:
        return ClippingState((self.max_grad_norm,))

    def _factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        norms = total_norms(squared_norms)
        return torch.where(norms < SMALLEST, 0.0, state.max_grad_norms[0] / norms)
