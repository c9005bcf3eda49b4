"""Neural ODE network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sfumato.models.continuous import ContinuousFamily


@dataclass(frozen=True, kw_only=True)
class ODENet(ContinuousFamily):
    """A stem, one neural ODE (Chen et al., 2018, section 3) and a head, at the widths of torchdiffeq's MNIST example.

    Its step is fixed (Euler's, N = 6, T = 1), where the example adapts it. See `ContinuousFamily` for the fields.
    """

    name: ClassVar[str] = "ode-net"

    def body(self, state: tuple[int, ...]) -> list[nn.Module]:
        return [self.solver(state)]
