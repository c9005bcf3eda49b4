"""Neural ODE network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.ode_net import ODENet
from sfumato.training.presets.continuous import ContinuousPreset


@dataclass(frozen=True, kw_only=True)
class ODENetPreset(ContinuousPreset):
    """Six Euler steps unless told otherwise; see `ODENet`."""

    name: ClassVar[str] = "ode-net"
    reference: ClassVar[str] = ODENet.reference
    summary: ClassVar[str] = "Neural ODE on a fixed grid, one set of weights for all steps; images and tables."

    def model(self) -> ModelFamily:
        return ODENet(
            channels=self.channels,
            width=self.width,
            steps=self.steps,
            horizon=self.horizon,
            integrator=self.integrator,
            augmented=self.augmented,
            checkpointed=self.checkpointed,
        )
