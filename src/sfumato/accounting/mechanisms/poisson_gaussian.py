"""Gaussian noise on a sum over a Poisson sample: the mechanism of DP-SGD."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import NoisySum, rate

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from sfumato.accounting.privacy_loss import Losses


@dataclass(frozen=True, kw_only=True)
class PoissonGaussian(NoisySum):
    """Each unit takes part in each step by its own coin (Abadi et al. 2016; Zhu, Dong and Wang 2022).

    Args:
        sample_rate: probability of a unit to take part in a step, in (0, 1].
        noise_multiplier: standard deviation of the noise over the clipping norm.
        steps: how many steps.
        adjacency: the neighbouring relation. REPLACE_SPECIAL costs what ADD_OR_REMOVE_ONE costs; REPLACE_ONE is covered
            by PLD only.
    """

    name: ClassVar[str] = "poisson-gaussian"
    sampler: ClassVar[str] = "Poisson sampling"

    sample_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        rate("sample_rate", self.sample_rate)

    @property
    def described(self) -> str:
        return (
            f"{self.sampler} at rate {self.sample_rate:.6g}, noise multiplier {self.noise_multiplier:g}, "
            f"{self.steps} steps"
        )

    def dp_event(self) -> DpEvent:
        from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

        one = PoissonSampledDpEvent(self.sample_rate, GaussianDpEvent(self.noise_multiplier))
        return SelfComposedDpEvent(one, self.steps)

    def renyi_event(self) -> DpEvent | None:
        return None if self.adjacency is Adjacency.REPLACE_ONE else self.dp_event()

    def losses(self, interval: float) -> Losses:
        from sfumato.accounting.privacy_loss import replaced_gaussian, sampled_gaussian

        kind = replaced_gaussian if self.adjacency is Adjacency.REPLACE_ONE else sampled_gaussian
        return kind(self._noise, self.sample_rate, interval)

    @property
    def _noise(self) -> float:
        return self.noise_multiplier / math.sqrt(self.steps / self.repeats)

    @property
    def repeats(self) -> int:
        """The steps; 1 at rate 1, where steps of Gaussian noise are together one step with less of it."""
        return 1 if self.sample_rate == 1 else self.steps
