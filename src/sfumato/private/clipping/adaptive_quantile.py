"""Adaptive clipping: the bound follows a quantile of the norms, estimated under noise that is accounted for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.errors import UsageError
from sfumato.private.clipping.base import Clipping, ClippingState, total_norms
from sfumato.private.clipping.flat import flat_factors
from sfumato.private.noise.source import NoiseSource
from sfumato.validate import at_least, in_range, positive

COUNT_SENSITIVITY = 0.5  # of the sum of b - 1/2: a unit that joins or leaves moves it by a half


@dataclass(frozen=True, kw_only=True)
class AdaptiveQuantile(Clipping):
    """Flat clipping whose bound C tracks a quantile of the units' norms (Andrew et al., arXiv 1905.03871).

    With b = 1[||g|| <= C] for each unit of the batch and m the expected batch size, a step releases
    f = (sum of (b - 1/2) + N(0, s^2)) / m + 1/2 and sets C to C exp(-learning_rate (f - quantile)) (algorithm 1). To
    pay for both releases with one noise multiplier z, gradients get (z^-2 - (2 s)^-2)^(-1/2) (theorem 1).

    The bits are centred, and the divisor is the expected batch size, so an empty batch is a batch like any other. A
    unit with a non-finite gradient counts as one above the bound.

    Args:
        initial: C at the first step, above 0.
        quantile: share of units that should be within the bound, in [0, 1].
        learning_rate: eta, above 0.
        count_noise_multiplier: s, the standard deviation of the noise on the count, in units; None for
            expected_batch_size / 20. Must be above half the noise multiplier.
    """

    name: ClassVar[str] = "adaptive-quantile"
    summary: ClassVar[str] = "Flat clipping to a private quantile of the norms."
    reference: ClassVar[str] = "andrew2021differentially"
    bibtex: ClassVar[str] = """@inproceedings{andrew2021differentially,
  author = {Andrew, Galen and Thakkar, Om and McMahan, H. Brendan and Ramaswamy, Swaroop},
  title = {Differentially Private Learning with Adaptive Clipping},
  booktitle = {Advances in Neural Information Processing Systems 34},
  year = {2021}
}"""

    initial: float
    quantile: float = 0.5
    learning_rate: float = 0.2
    count_noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        positive("initial", self.initial)
        in_range("quantile", self.quantile, 0, 1)
        positive("learning_rate", self.learning_rate)
        if self.count_noise_multiplier is not None:
            positive("count_noise_multiplier", self.count_noise_multiplier)

    def initial_state(self, tensors: int) -> ClippingState:
        return ClippingState((self.initial,))

    def _factors(self, squared_norms: torch.Tensor, state: ClippingState) -> torch.Tensor:
        return flat_factors(total_norms(squared_norms), state.max_grad_norms[0])

    def updated(
        self,
        state: ClippingState,
        squared_norms: torch.Tensor,
        mask: torch.Tensor,
        source: NoiseSource,
        expected_batch_size: float,
    ) -> ClippingState:
        bound = state.max_grad_norms[0]
        noise = source.fill(torch.empty(1, dtype=torch.float64)).item() * self.count_std(expected_batch_size)
        share = noisy_share(centred_count(squared_norms, mask, bound), noise, expected_batch_size)
        return ClippingState((bound * math.exp(-self.learning_rate * (share - self.quantile)),))

    def count_std(self, expected_batch_size: float) -> float:
        """s: the standard deviation of the noise on the count, in units."""
        positive("expected_batch_size", expected_batch_size)
        return expected_batch_size / 20 if self.count_noise_multiplier is None else self.count_noise_multiplier

    def gradient_noise_multiplier(self, noise_multiplier: float, expected_batch_size: float) -> float:
        at_least("noise_multiplier", noise_multiplier, 0)
        std = self.count_std(expected_batch_size)
        if not std > noise_multiplier * COUNT_SENSITIVITY:
            raise UsageError(
                f"Expected noise on the count of more than {noise_multiplier * COUNT_SENSITIVITY:g}, half the noise "
                f"multiplier, got {std:g}: the count alone would spend more than the whole budget.",
                remedy="Raise `count_noise_multiplier`, or the expected batch size if it is left to the default.",
            )
        return split_noise_multiplier(noise_multiplier, std)


def centred_count(squared_norms: torch.Tensor, mask: torch.Tensor, bound: float) -> float:
    """Sum over the units in `mask` [units] of 1[||g|| <= bound] - 1/2, from squared norms [units, tensors]."""
    within = total_norms(squared_norms.double().clamp(min=0))[:, 0] <= bound  # False where the norm is not a number
    return float(((within.double() - 0.5) * mask).sum())


def noisy_share(count: float, noise: float, expected_batch_size: float) -> float:
    """The released estimate of the share of units within the bound."""
    return (count + noise) / expected_batch_size + 0.5


def split_noise_multiplier(noise_multiplier: float, count_std: float) -> float:
    """z_g with z_g^-2 + (2 s)^-2 = z^-2; 0 for no noise. Needs s > z / 2."""
    if noise_multiplier == 0:
        return 0.0
    return (noise_multiplier**-2 - (count_std / COUNT_SENSITIVITY) ** -2) ** -0.5
