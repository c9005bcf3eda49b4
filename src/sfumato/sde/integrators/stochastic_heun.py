"""The stochastic Heun method for Stratonovich equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.citations import KLOEDEN1992
from sfumato.sde.system import System, plus_noise


@dataclass(frozen=True, kw_only=True)
class StochasticHeun(Integrator):
    """Euler's step as a predictor, then the mean of drift and diffusion at both ends (Kloeden and Platen, 1992).

    Converges to the Stratonovich solution: with g = sigma h it solves another Ito equation, whose drift has
    sigma^2 h / 2 more. For additive noise the two are one. Also torchsde's method "heun".
    """

    name: ClassVar[str] = "stochastic-heun"
    summary: ClassVar[str] = "Two drift evaluations a step; strong order 1, to the Stratonovich solution."
    reference: ClassVar[str] = "kloeden1992numerical"
    bibtex: ClassVar[str] = KLOEDEN1992
    stochastic: ClassVar[bool] = True
    strong_order: ClassVar[float] = 1.0
    calculus: ClassVar[str] = "stratonovich"
    evaluations: ClassVar[int] = 2
    order: ClassVar[int] = 2

    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        first = system.drift(t, h)
        predicted = torch.add(h, first, alpha=dt)
        if dw is None or system.diffusion is None:
            second = system.drift(t + dt, predicted)
            return torch.add(h, torch.add(first, second), alpha=dt / 2)
        here = system.diffusion(t, h, first)
        predicted = plus_noise(predicted, here, dw)
        second = system.drift(t + dt, predicted)
        there = system.diffusion(t + dt, predicted, second)
        return plus_noise(torch.add(h, torch.add(first, second), alpha=dt / 2), (here + there) / 2, dw)
