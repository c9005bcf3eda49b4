"""Gaussian noise on a sum over a Poisson sample that is cut to a largest batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import NoisySum, rate, whole
from sfumato.validate import at_least

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from sfumato.accounting.privacy_loss import Losses


@dataclass(frozen=True, kw_only=True)
class TruncatedPoissonGaussian(NoisySum):
    """Poisson sampling; a sample above `max_batch_size` is cut to a random part of that size (arXiv 2508.15089).

    Args:
        sample_rate: probability of a unit to be drawn before the cut, in (0, 1].
        noise_multiplier: standard deviation of the noise over the clipping norm.
        steps: how many steps.
        units: how many units of privacy the data hold; public, which only relations that keep it allow.
        max_batch_size: the largest batch.
        adjacency: REPLACE_ONE or REPLACE_SPECIAL.
    """

    name: ClassVar[str] = "truncated-poisson-gaussian"
    sampler: ClassVar[str] = "truncated Poisson sampling"
    adjacencies: ClassVar[tuple[Adjacency, ...]] = (Adjacency.REPLACE_ONE, Adjacency.REPLACE_SPECIAL)

    sample_rate: float
    units: int
    max_batch_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        rate("sample_rate", self.sample_rate)
        for name in ("units", "max_batch_size"):
            whole(name, getattr(self, name))
            at_least(name, getattr(self, name), 1)

    @staticmethod
    def why_not(adjacency: Adjacency) -> str:
        return f"how often a batch is cut depends on the number of units, which {adjacency} keeps secret"

    @property
    def described(self) -> str:
        return (
            f"{self.sampler} at rate {self.sample_rate:.6g} of {self.units} units, at most {self.max_batch_size} in a "
            f"batch, noise multiplier {self.noise_multiplier:g}, {self.steps} steps"
        )

    def dp_event(self) -> DpEvent:
        from dp_accounting import SelfComposedDpEvent, TruncatedSubsampledGaussianDpEvent

        one = TruncatedSubsampledGaussianDpEvent(
            self.units, self.sample_rate, self.max_batch_size, self.noise_multiplier
        )
        return SelfComposedDpEvent(one, self.steps)

    def losses(self, interval: float) -> Losses:
        from scipy.stats import binom

        from sfumato.accounting.privacy_loss import mixed, replaced_gaussian, sampled_gaussian

        kind = replaced_gaussian if self.adjacency is Adjacency.REPLACE_ONE else sampled_gaussian
        whole_batch = kind(self.noise_multiplier, self.sample_rate, interval)
        cut = float(binom.sf(self.max_batch_size - 1, self.units - 1, self.sample_rate))
        if cut == 0:
            return whole_batch
        too_many = float(binom.sf(self.max_batch_size, self.units, self.sample_rate))
        taking_part = too_many * self.max_batch_size / cut / self.units
        # a unit that takes part in a cut batch also pushes another one out: twice the change
        return mixed(replaced_gaussian(self.noise_multiplier / 2, taking_part, interval), whole_batch, cut)
