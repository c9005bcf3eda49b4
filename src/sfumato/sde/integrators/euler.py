"""Euler's method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.citations import HAIRER1993
from sfumato.sde.system import System


@dataclass(frozen=True, kw_only=True)
class Euler(Integrator):
    """h + f(t, h) dt: what a residual block does, with dt = 1."""

    name: ClassVar[str] = "euler"
    summary: ClassVar[str] = "First order; one drift evaluation a step, as in a residual block."
    reference: ClassVar[str] = "hairer1993solving"
    bibtex: ClassVar[str] = HAIRER1993

    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        return torch.add(h, system.drift(t, h), alpha=dt)
