"""The contract of clipping: how much of each unit's gradient enters the sum, and the L2 bound that follows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.errors import UsageError
from sfumato.private.noise.source import NoiseSource


@dataclass(frozen=True)
class ClippingState:
    """What a method carries from step to step; public, since it depends on the records through noise only.

    Args:
        max_grad_norms: the bound of each group of tensors: one entry for all together, or one per tensor.
    """

    max_grad_norms: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_grad_norms", tuple(float(bound) for bound in self.max_grad_norms))
        if not self.max_grad_norms or not all(0 < bound < math.inf for bound in self.max_grad_norms):
            raise UsageError(
                f"Expected finite clip bounds above 0, got {self.max_grad_norms}.",
                remedy="Give `max_grad_norm` a positive value; if it ran away while adapting, lower `learning_rate`.",
            )


@dataclass(frozen=True, kw_only=True)
class Clipping(ABC):
    """A way to bound each unit's contribution c g to the sum over units.

    `squared_norms` is [units, tensors], float32 or better: the squared L2 norm of each unit's gradient for each
    trainable tensor. A unit is what the guarantee protects (all records of a patient together, say). Methods are pure:
    what changes from step to step is in `ClippingState`.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""

    def factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        """Multipliers [units, tensors] (maybe an expanded view, to read only) with ||c g|| <= `sensitivity`.

        A unit with a non-finite squared norm in any tensor has factor 0 in all of them; since 0 times infinity is no
        number, the caller must leave such units (`finite_mask`) out of the sum, and report them. Squared norms that
        rounding pushed below 0 count as 0. Factors are rounded down far enough for the bound to hold in floating
        point, as long as the norms given are right to 8 units in the last place.

        Raises:
            UsageError: if `squared_norms` is not a matrix of float32 or float64.
        """
        _check_norms(squared_norms)
        exact = squared_norms.double().clamp(min=0)
        found = self._factors(exact, state).masked_fill(~finite_mask(squared_norms)[:, None], 0.0)
        return (found * (1 - 8 * torch.finfo(squared_norms.dtype).eps)).to(squared_norms.dtype).expand(exact.shape)

    @abstractmethod
    def _factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        """float64 [units, tensors] or [units, 1]: the multipliers in exact arithmetic; rows may be non-finite."""

    @abstractmethod
    def initial_state(self, tensors: int) -> ClippingState:
        """The state before the first step of a model with that many trainable tensors."""

    def sensitivity(self, state: ClippingState, tensors: int) -> float:
        """The exact L2 bound of one unit's contribution; the noise is scaled by this value and by no other.

        Raises:
            UsageError: if the state is not for that many tensors.
        """
        if len(state.max_grad_norms) not in (1, tensors):
            raise UsageError(
                f"Expected one clip bound, or one for each of {tensors} tensors, got {len(state.max_grad_norms)}.",
                remedy="Use the state that `initial_state` made for this model.",
            )
        return math.hypot(*state.max_grad_norms)

    def updated(
        self,
        state: ClippingState,
        squared_norms: torch.Tensor,
        mask: torch.Tensor,
        source: NoiseSource,
        expected_batch_size: float,
    ) -> ClippingState:
        """The state after one logical step; called once per step, empty batches included.

        Args:
            state: the state that this step was clipped with.
            squared_norms: [units, tensors] of the whole logical batch; may have no rows.
            mask: bool [units], False for padding, whose rows count for nothing.
            source: where noise comes from.
            expected_batch_size: the plan's public number; the actual size of a batch is private.
        """
        return state

    def gradient_noise_multiplier(self, noise_multiplier: float, expected_batch_size: float) -> float:
        """The noise multiplier for the gradients, where `noise_multiplier` pays for all that a step releases.

        Raises:
            UsageError: if what else the method releases takes the whole budget.
        """
        return noise_multiplier


def finite_mask(squared_norms: torch.Tensor) -> torch.Tensor:
    """bool [units]: whether all of a unit's squared norms [units, tensors] are finite."""
    return torch.isfinite(squared_norms).all(dim=1)


def total_norms(squared_norms: torch.Tensor) -> torch.Tensor:
    """[units, 1]: the L2 norm of each unit's whole gradient."""
    return squared_norms.sum(dim=1, keepdim=True).sqrt()


def _check_norms(squared_norms: torch.Tensor) -> None:
    if squared_norms.ndim != 2 or squared_norms.dtype not in (torch.float32, torch.float64):
        raise UsageError(
            f"Expected squared norms [units, tensors] in float32 or float64, got {squared_norms.dtype} "
            f"{list(squared_norms.shape)}.",
            remedy="Compute norms in float32 or better, also under mixed precision.",
        )
