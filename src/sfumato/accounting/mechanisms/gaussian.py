"""Gaussian noise on a sum over all units: every step sees everyone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import NoisySum

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from sfumato.accounting.privacy_loss import Losses


@dataclass(frozen=True, kw_only=True)
class Gaussian(NoisySum):
    """Gaussian noise without sampling (Dwork and Roth 2014, appendix A; Balle and Wang 2018)."""

    name: ClassVar[str] = "gaussian"
    sampler: ClassVar[str] = "no sampling, every unit in every step"

    @property
    def described(self) -> str:
        return f"{self.sampler}, noise multiplier {self.noise_multiplier:g}, {self.steps} steps"

    def dp_event(self) -> DpEvent:
        from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

        return SelfComposedDpEvent(GaussianDpEvent(self.noise_multiplier), self.steps)

    def renyi_event(self) -> DpEvent:
        from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

        doubled = 2 if self.adjacency is Adjacency.REPLACE_ONE else 1
        return SelfComposedDpEvent(GaussianDpEvent(self.noise_multiplier / doubled), self.steps)

    def losses(self, interval: float) -> Losses:
        from sfumato.accounting.privacy_loss import replaced_gaussian, sampled_gaussian

        together = self.noise_multiplier / math.sqrt(self.steps)
        kind = replaced_gaussian if self.adjacency is Adjacency.REPLACE_ONE else sampled_gaussian
        return kind(together, 1.0, interval)

    @property
    def repeats(self) -> int:
        """1: steps of Gaussian noise are together one step with less of it."""
        return 1
