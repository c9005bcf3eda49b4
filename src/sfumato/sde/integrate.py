"""Solving dh = f(t, h) dt + g(t, h) dW on a fixed grid, unrolled: a Python loop that autograd, vmap and compile follow.

No step size depends on the data, so no record of a batch can influence another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sfumato.errors import UsageError
from sfumato.sde.integrators.base import Integrator
from sfumato.sde.system import System
from sfumato.validate import at_least, positive

__all__ = ["Grid", "System", "given", "integrate"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Equal steps from 0 to the horizon.

    Args:
        horizon: T, above 0.
        steps: N, at least 1.
    """

    horizon: float = 1.0
    steps: int = 6

    def __post_init__(self) -> None:
        positive("horizon", self.horizon)
        if isinstance(self.steps, bool) or not isinstance(self.steps, int):
            raise UsageError(f"Expected `steps` as a whole number, got {self.steps!r}.", remedy="Use 1, 2, 3, ...")
        at_least("steps", self.steps, 1)

    @property
    def dt(self) -> float:
        """Length of a step."""
        return self.horizon / self.steps

    def time(self, step: int) -> float:
        """Where step `step` begins."""
        return step * self.dt


Increments = Callable[[int, torch.Tensor], torch.Tensor]  # step and state to standard normals of the state's shape
OneStep = Callable[[Integrator, System, float, float, torch.Tensor, torch.Tensor | None], torch.Tensor]


def given(noise: torch.Tensor) -> Increments:
    """Increments from standard normals [N, *state] that were drawn beforehand."""
    return lambda step, _: noise[step]


def integrate(
    integrator: Integrator,
    system: System,
    h: torch.Tensor,
    grid: Grid,
    normals: Increments | None = None,
    *,
    level: float = 1.0,
    run_step: OneStep | None = None,
) -> torch.Tensor:
    """h_N from h_0.

    Args:
        integrator: a stochastic one for a system with diffusion, any for one without.
        system: drift, and diffusion if any.
        h: initial state [batch, ...], any shape.
        grid: horizon and steps.
        normals: gives the standard normals of a step; needed where the system has a diffusion and `level` is not 0.
        level: factor on all noise, from 0 (the drift alone) to 1.
        run_step: how a step is run; e.g. checkpointed. By default `Integrator.step` itself.

    Raises:
        UsageError: for noise with an integrator that takes none, or a diffusion without normals.
    """
    noisy = system.diffusion is not None and level != 0
    if noisy and not integrator.stochastic:
        raise UsageError(
            f"Expected an integrator for equations with noise, got {integrator.name!r}.",
            remedy='Use "euler-maruyama", "milstein" or "stochastic-heun".',
        )
    if noisy and normals is None:
        raise UsageError("Expected standard normals for a system with diffusion, got none.", remedy="Give `normals`.")
    dt, take = grid.dt, run_step or _step
    for step in range(grid.steps):
        dw = None
        if noisy and normals is not None:
            dw = normals(step, h) * (level * dt**0.5)
        h = take(integrator, system, grid.time(step), dt, h, dw)
    return h


def _step(
    integrator: Integrator, system: System, t: float, dt: float, h: torch.Tensor, dw: torch.Tensor | None
) -> torch.Tensor:
    return integrator.step(system, t, dt, h, dw)
