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

__all__ = ["Grid", "System", "advance", "given", "integrate"]


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
OneStep = Callable[[int, torch.Tensor], torch.Tensor]  # step and state to the next state


def given(noise: torch.Tensor) -> Increments:
    """Increments that were drawn beforehand, [N, *state]; row k is for step k."""

    def of_step(step: int, h: torch.Tensor) -> torch.Tensor:
        if step >= len(noise) or noise.shape[1:] != h.shape:
            raise UsageError(
                f"Expected standard normals [steps, {', '.join(map(str, h.shape))}] with a row for step {step}, got "
                f"shape {tuple(noise.shape)}.",
                remedy="Give one row per step, each of the shape of the state with its batch.",
            )
        return noise[step]

    return of_step


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
        run_step: in place of `advance` with these arguments; e.g. the same, checkpointed.

    Raises:
        UsageError: for noise with an integrator that takes none, or a diffusion without normals.
    """
    noisy = system.diffusion is not None and level != 0
    if noisy:
        refuse_noise(integrator)
    if noisy and normals is None:
        raise UsageError("Expected standard normals for a system with diffusion, got none.", remedy="Give `normals`.")
    for step in range(grid.steps):
        if run_step is not None:
            h = run_step(step, h)
        else:
            h = advance(integrator, system, h, grid, step, normals if noisy else None, level)
    return h


def refuse_noise(integrator: Integrator) -> None:
    """Raises: UsageError, if the integrator is for equations without noise."""
    if not integrator.stochastic:
        raise UsageError(
            f"Expected an integrator for equations with noise, got {integrator.name!r}.",
            remedy='Use "euler-maruyama", "milstein" or "stochastic-heun".',
        )


def advance(
    integrator: Integrator,
    system: System,
    h: torch.Tensor,
    grid: Grid,
    step: int,
    normals: Increments | None,
    level: float,
) -> torch.Tensor:
    """The state after one step of the grid; see `integrate`. Without `normals` the step has no noise."""
    dw = None if normals is None else normals(step, h) * (level * grid.dt**0.5)
    return integrator.step(system, grid.time(step), grid.dt, h, dw)
