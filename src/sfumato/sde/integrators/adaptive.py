"""Adaptive steps by Dormand and Prince, from torchdiffeq: an optional extra, for ordinary equations only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from sfumato.errors import UsageError
from sfumato.sde.integrators.base import Integrator
from sfumato.sde.system import System
from sfumato.validate import positive


@dataclass(frozen=True, kw_only=True)
class Adaptive(Integrator):
    """Each step of the grid solved to a tolerance by torchdiffeq's dopri5 (Dormand and Prince, 1980).

    A grid of one step leaves the whole interval to the solver, which may look past its end and interpolates. The step
    size follows an error norm over the whole batch, so the records of a batch influence each other: private training
    and stacks refuse it, and an answer depends on the batch that it was asked in. Needs `pip install sfumato[ode]`.

    Args:
        rtol: relative tolerance, above 0.
        atol: absolute tolerance, above 0; 10^-3 each in torchdiffeq's own example.
    """

    name: ClassVar[str] = "adaptive"
    summary: ClassVar[str] = "torchdiffeq's dopri5, to a tolerance; couples the records of a batch."
    reference: ClassVar[str] = "dormand1980family"
    bibtex: ClassVar[str] = """@article{dormand1980family,
  author = {Dormand, John R. and Prince, Peter J.},
  title = {A family of embedded {Runge-Kutta} formulae},
  journal = {Journal of Computational and Applied Mathematics},
  volume = {6},
  number = {1},
  pages = {19--26},
  year = {1980}
}"""
    evaluations: ClassVar[int] = 6  # for each step that the solver accepts or rejects
    order: ClassVar[int] = 5
    couples: ClassVar[str] = "one step size serves the whole batch, so each record changes the steps of all others"

    rtol: float = 1e-3
    atol: float = 1e-3

    def __post_init__(self) -> None:
        positive("rtol", self.rtol)
        positive("atol", self.atol)

    def step(self, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None) -> torch.Tensor:
        try:
            from torchdiffeq import odeint
        except ImportError as error:
            raise UsageError(
                "Expected the package torchdiffeq for adaptive steps, got none.",
                remedy="Run `pip install sfumato[ode]`, or use a fixed-step integrator.",
            ) from error
        ends = torch.tensor([t, t + dt], dtype=h.dtype, device=h.device)
        path = odeint(lambda now, x: system.drift(float(now.detach()), x), h, ends, rtol=self.rtol, atol=self.atol)
        return cast(torch.Tensor, path)[-1]
