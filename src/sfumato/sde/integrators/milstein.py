"""The Milstein method for Ito equations with diagonal noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.errors import UsageError
from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.citations import KLOEDEN1992
from sfumato.sde.system import System, plus_noise


@dataclass(frozen=True, kw_only=True)
class Milstein(Integrator):
    """Euler-Maruyama plus g g' (dW^2 - dt) / 2 (Kloeden and Platen, 1992, section 10.3, equation 3.1 by component).

    Needs a diffusion each value of which depends on the same value of the state only, so that its slope is known.
    """

    name: ClassVar[str] = "milstein"
    summary: ClassVar[str] = "One drift evaluation a step; strong order 1; needs the slope of the diffusion."
    reference: ClassVar[str] = "kloeden1992numerical"
    bibtex: ClassVar[str] = KLOEDEN1992
    stochastic: ClassVar[bool] = True
    strong_order: ClassVar[float] = 1.0
    calculus: ClassVar[str] = "ito"

    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        drift = system.drift(t, h)
        moved = torch.add(h, drift, alpha=dt)
        if dw is None or system.diffusion is None:
            return moved
        if system.slope is None:
            raise UsageError(
                "Expected a diffusion with a known slope for the Milstein method, got one without: it depends on other "
                "values of the state, too.",
                remedy='Use "euler-maruyama" or "stochastic-heun".',
            )
        diffusion, slope = system.diffusion(t, h, drift), system.slope(t, h, drift)
        moved = plus_noise(moved, diffusion, dw)
        if not isinstance(slope, torch.Tensor) and slope == 0:
            return moved
        return torch.add(moved, (dw.square() - dt) * diffusion * slope, alpha=0.5)
