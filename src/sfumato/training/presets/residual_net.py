"""Residual network that is like the ODE and SDE networks but for its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.models.base import ModelFamily
from sfumato.models.residual_net import ResidualNet
from sfumato.training.presets.continuous import SteadyPreset


@dataclass(frozen=True, kw_only=True)
class ResidualNetPreset(SteadyPreset):
    """What `ode-net` and `sde-net` are compared with.

    Args:
        blocks: how many, each with weights of its own.
    """

    name: ClassVar[str] = "residual-net"
    reference: ClassVar[str] = ResidualNet.reference
    summary: ClassVar[str] = "Residual blocks between the stem and the head of ode-net and sde-net; images and tables."

    blocks: int = 6

    def model(self) -> ModelFamily:
        return ResidualNet(channels=self.channels, width=self.width, blocks=self.blocks)
