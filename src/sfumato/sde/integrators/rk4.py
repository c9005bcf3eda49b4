"""The classical Runge-Kutta method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.citations import HAIRER1993
from sfumato.sde.system import System


@dataclass(frozen=True, kw_only=True)
class RK4(Integrator):
    """Four slopes with weights 1/6, 1/3, 1/3, 1/6 (Hairer, Norsett and Wanner, 1993, section II.1, table 1.2).

    torchdiffeq's method of the same name is another one of this order, Kutta's 3/8 rule.
    """

    name: ClassVar[str] = "rk4"
    summary: ClassVar[str] = "Fourth order; four drift evaluations a step."
    reference: ClassVar[str] = "hairer1993solving"
    bibtex: ClassVar[str] = HAIRER1993
    evaluations: ClassVar[int] = 4
    order: ClassVar[int] = 4

    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        first = system.drift(t, h)
        second = system.drift(t + dt / 2, torch.add(h, first, alpha=dt / 2))
        third = system.drift(t + dt / 2, torch.add(h, second, alpha=dt / 2))
        fourth = system.drift(t + dt, torch.add(h, third, alpha=dt))
        middle = torch.add(second, third)
        return torch.add(h, torch.add(torch.add(first, fourth), middle, alpha=2), alpha=dt / 6)
