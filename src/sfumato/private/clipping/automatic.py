"""Automatic clipping: every gradient normalised, with a constant that keeps small ones small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.private.clipping.base import Clipping, ClippingState, total_norms
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class Automatic(Clipping):
    """c = C / (||g|| + gamma) (AUTO-S of Bu et al., arXiv 2206.07136, equation 4.1).

    C only scales the learning rate and the noise alike, so there is nothing to tune.

    Args:
        max_grad_norm: C, above 0.
        gamma: above 0; gradients much shorter than gamma keep their relative sizes.
    """

    name: ClassVar[str] = "automatic"
    summary: ClassVar[str] = "Divides each gradient by its norm plus a constant; no bound to tune."
    reference: ClassVar[str] = "bu2023automatic"
    bibtex: ClassVar[str] = """@inproceedings{bu2023automatic,
  author = {Bu, Zhiqi and Wang, Yu-Xiang and Zha, Sheng and Karypis, George},
  title = {Automatic Clipping: Differentially Private Deep Learning Made Easier and Stronger},
  booktitle = {Advances in Neural Information Processing Systems 36},
  year = {2023}
}"""

    max_grad_norm: float = 1.0
    gamma: float = 0.01

    def __post_init__(self) -> None:
        positive("max_grad_norm", self.max_grad_norm)
        positive("gamma", self.gamma)

    def initial_state(self, tensors: int) -> ClippingState:
        return ClippingState((self.max_grad_norm,))

    def _factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        return state.max_grad_norms[0] / (total_norms(squared_norms) + self.gamma)
