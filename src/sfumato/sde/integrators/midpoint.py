"""The explicit midpoint method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.citations import HAIRER1993
from sfumato.sde.system import System


@dataclass(frozen=True, kw_only=True)
class Midpoint(Integrator):
    """h + f(t + dt/2, h + f(t, h) dt/2) dt (Hairer, Norsett and Wanner, 1993, section II.1)."""

    name: ClassVar[str] = "midpoint"
    summary: ClassVar[str] = "Second order; two drift evaluations a step."
    reference: ClassVar[str] = "hairer1993solving"
    bibtex: ClassVar[str] = HAIRER1993
    evaluations: ClassVar[int] = 2
    order: ClassVar[int] = 2

    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        halfway = torch.add(h, system.drift(t, h), alpha=dt / 2)
        return torch.add(h, system.drift(t + dt / 2, halfway), alpha=dt)
