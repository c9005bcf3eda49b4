"""Per-layer clipping: a bound for each trainable tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.errors import UsageError
from sfumato.private.clipping.base import Clipping, ClippingState
from sfumato.private.clipping.flat import flat_factors
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class PerLayer(Clipping):
    """c_l = min(1, C_l / ||g_l||) for each tensor l; a unit's whole contribution is at most sqrt(sum of C_l^2).

    (McMahan et al., arXiv 1710.06963, section 3.4; He et al., arXiv 2212.01539.) Nothing of one tensor waits for the
    norm of another, so gradients need not be kept until the end of the backward pass. Give one of the two arguments.

    Args:
        max_grad_norm: the bound of the whole, split evenly: C_l = max_grad_norm / sqrt(tensors).
        max_grad_norms: C_l of each tensor, in the order of the model's trainable parameters.
    """

    name: ClassVar[str] = "per-layer"
    summary: ClassVar[str] = "Clips each trainable tensor to a bound of its own."
    reference: ClassVar[str] = "he2023exploring"
    bibtex: ClassVar[str] = """@inproceedings{he2023exploring,
  author = {He, Jiyan and Li, Xuechen and Yu, Da and Zhang, Huishuai and Kulkarni, Janardhan and Lee, Yin Tat and
            Backurs, Arturs and Yu, Nenghai and Bian, Jiang},
  title = {Exploring the Limits of Differentially Private Deep Learning with Group-wise Clipping},
  booktitle = {International Conference on Learning Representations},
  year = {2023}
}"""

    max_grad_norm: float | None = None
    max_grad_norms: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.max_grad_norm is None) == (self.max_grad_norms is None):
            raise UsageError(
                f"Expected either `max_grad_norm` or `max_grad_norms`, got {self.max_grad_norm} and "
                f"{self.max_grad_norms}.",
                remedy="Give one bound for the whole, or one for each trainable tensor.",
            )
        if self.max_grad_norm is not None:
            positive("max_grad_norm", self.max_grad_norm)
        if self.max_grad_norms is not None:
            object.__setattr__(self, "max_grad_norms", ClippingState(tuple(self.max_grad_norms)).max_grad_norms)

    def initial_state(self, tensors: int) -> ClippingState:
        if self.max_grad_norm is not None:
            return ClippingState((self.max_grad_norm / math.sqrt(tensors),) * tensors)
        bounds = self.max_grad_norms or ()
        if len(bounds) != tensors:
            raise UsageError(
                f"Expected {tensors} bounds in `max_grad_norms`, one per trainable tensor, got {len(bounds)}.",
                remedy="Give as many, or `max_grad_norm` for an even split.",
            )
        return ClippingState(bounds)

    def _factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        if squared_norms.shape[1] != len(state.max_grad_norms):
            raise UsageError(
                f"Expected squared norms of {len(state.max_grad_norms)} tensors, got {squared_norms.shape[1]}.",
                remedy="Use the state that `initial_state` made for this model.",
            )
        return flat_factors(squared_norms.sqrt(), squared_norms.new_tensor(state.max_grad_norms))
