"""The Euler-Maruyama method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.citations import KLOEDEN1992
from sfumato.sde.system import System, plus_noise


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(Integrator):
    """h + f(t, h) dt + g(t, h) dW (Kloeden and Platen, 1992, section 10.2).

    Strong order 1/2 in general and 1 for additive noise, weak order 1. Without noise it is Euler's method.
    """

    name: ClassVar[str] = "euler-maruyama"
    summary: ClassVar[str] = "One drift evaluation a step; strong order 1/2, and 1 for additive noise."
    reference: ClassVar[str] = "kloeden1992numerical"
    bibtex: ClassVar[str] = KLOEDEN1992
    stochastic: ClassVar[bool] = True
    strong_order: ClassVar[float] = 0.5
    calculus: ClassVar[str] = "ito"

    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        drift = system.drift(t, h)
        moved = torch.add(h, drift, alpha=dt)
        if dw is None or system.diffusion is None:
            return moved
        return plus_noise(moved, system.diffusion(t, h, drift), dw)
