"""Neural SDE network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.sde_net import SDENet
from sfumato.training.presets.continuous import ContinuousPreset


@dataclass(frozen=True, kw_only=True)
class SDENetPreset(ContinuousPreset):
    """Six Euler-Maruyama steps with additive noise unless told otherwise; see `SDENet`. Its noise gives no epsilon.

    Args:
        diffusion: name of the diffusion field.
        sigma: its strength.
        noise_at_test: whether the trained network answers with noise.
    """

    name: ClassVar[str] = "sde-net"
    reference: ClassVar[str] = SDENet.reference
    summary: ClassVar[str] = "Neural SDE on a fixed grid, with noise in every step; no guarantee; images and tables."

    integrator: str = SDENet.integrator
    diffusion: str = SDENet.diffusion
    sigma: float = SDENet.sigma
    noise_at_test: bool = SDENet.noise_at_test

    def model(self) -> ModelFamily:
        return SDENet(
            channels=self.channels,
            width=self.width,
            steps=self.steps,
            horizon=self.horizon,
            integrator=self.integrator,
            augmented=self.augmented,
            checkpointed=self.checkpointed,
            diffusion=self.diffusion,
            sigma=self.sigma,
            noise_at_test=self.noise_at_test,
        )
