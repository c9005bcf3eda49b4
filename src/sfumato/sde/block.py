"""A layer that solves a neural ODE or SDE: state in, state at the horizon out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.private.checkpoint import checkpoint
from sfumato.sde.diffusions.base import DiffusionField
from sfumato.sde.integrate import Grid, Increments, advance, given, integrate, refuse_noise
from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.euler import Euler
from sfumato.sde.noise import Drawn, SourceDraws, normals_from
from sfumato.sde.streams import StreamLayer
from sfumato.sde.system import System
from sfumato.validate import in_range


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a block that replaces a residual block becomes one with noise; public numbers, so no data decide it.

    Args:
        start: share of the training, in [0, 1), during which it takes one step without noise: the old block.
        ramp: share over which the noise then rises linearly from 0.
    """

    start: float = 0.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        in_range("start", self.start, 0, 0.99)
        in_range("ramp", self.ramp, 0, 1)
        in_range("start + ramp", self.start + self.ramp, 0, 1 + 1e-9)

    @property
    def constant(self) -> bool:
        """Whether steps and noise are the same throughout the training."""
        return self.start == 0 and self.ramp == 0

    def level(self, progress: float) -> float:
        """Factor on the noise, in [0, 1]."""
        if progress < self.start:
            return 0.0
        return 1.0 if self.ramp == 0 else min(1.0, (progress - self.start) / self.ramp)


class SDEBlock(StreamLayer):
    """h_0 to h_N on a fixed grid, unrolled.

    Has no tensors of its own: what is learned is in `drift` and `scale`. In eval mode the noise stays, unless
    `noise_at_test` is False. Brownian increments come from the layer's streams, or are given as a tensor.

    Args:
        drift: module called with time (a number) and state [batch, *shape]; must keep the shape.
        grid: horizon and steps.
        integrator: how a step is taken.
        diffusion: None for an ordinary differential equation.
        shape: of one state; needed where the diffusion learns something.
        schedule: of steps and noise while training.
        after: applied to h_N (an activation that stood after the sum); None for nothing.
        noise_at_test: whether the noise is on in eval mode.
        checkpointed: run each step again in the backward pass instead of keeping its activations; not under vmap.

    Raises:
        UsageError: for a diffusion with an integrator that takes no noise.
    """

    def __init__(
        self,
        drift: nn.Module,
        grid: Grid,
        integrator: Integrator,
        diffusion: DiffusionField | None = None,
        *,
        shape: tuple[int, ...] = (),
        schedule: Schedule | None = None,
        after: nn.Module | None = None,
        noise_at_test: bool = True,
        checkpointed: bool = False,
    ) -> None:
        super().__init__()
        if diffusion is not None and diffusion.sigma > 0:
            refuse_noise(integrator)
        self.drift = drift
        self.scale = None if diffusion is None else diffusion.build(shape)
        self.after = after
        self.grid, self.integrator, self.diffusion = grid, integrator, diffusion
        self.schedule = schedule or Schedule()
        self.noise_at_test, self.checkpointed = noise_at_test, checkpointed
        self.answers_at_random = diffusion is not None and diffusion.sigma > 0 and noise_at_test

    @property
    def couples(self) -> str:
        """Why one record of a batch influences others, or ""."""
        return self.integrator.couples

    def forward(self, h: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """[batch, *shape] to the same.

        Args:
            h: initial state.
            noise: standard normals [N, batch, *shape] in place of the layer's streams. Under `torch.func.vmap` over
                records, batch is 1 inside: map over axis 1 of the noise and put the axis back, `noise.unsqueeze(1)`.

        Raises:
            UsageError: for noise of another shape, or for an equation that has none.
        """
        if noise is not None and self.diffusion is None:
            raise UsageError(
                "Expected no noise for a block without diffusion, got some.", remedy="Give the block a diffusion."
            )
        grid = Grid(horizon=self.grid.horizon, steps=1) if self.before_start else self.grid
        integrator, level = Euler() if self.before_start else self.integrator, self.level
        learned = self.scale(h) if level and self.scale is not None else None
        normals = self._normals(noise, grid.steps, h) if level else None

        def step_of(step: int, h: torch.Tensor, learned: torch.Tensor | None) -> torch.Tensor:
            return advance(integrator, self.system(learned), h, grid, step, normals, level)

        def again(step: int, h: torch.Tensor) -> torch.Tensor:
            return checkpoint(step_of, step, h, learned)  # gradients reach tensors that are arguments, and no others

        run = again if self.checkpointed and torch.is_grad_enabled() else None
        h = integrate(integrator, self.system(learned), h, grid, normals, level=level, run_step=run)
        return h if self.after is None else self.after(h)

    @property
    def before_start(self) -> bool:
        """Whether it still is the block that it replaces: one step of Euler's method without noise."""
        return not self.schedule.constant and self.progress < self.schedule.start

    @property
    def level(self) -> float:
        """Factor on the noise now: 0 where it is off, in eval mode where it is not wanted, or before it starts."""
        silent = self.noise == "off" or not (self.training or self.noise_at_test)
        if silent or self.diffusion is None or self.diffusion.sigma == 0:
            return 0.0
        return 1.0 if self.schedule.constant else self.schedule.level(self.progress)

    def system(self, learned: torch.Tensor | None) -> System:
        """The equation for paths along which the diffusion network gave `learned`."""
        if self.diffusion is None or (learned is None and self.scale is not None):
            return System(self.drift)
        fields = self.diffusion.along(learned)
        return System(self.drift, fields.diffusion, fields.slope)

    def _normals(self, noise: torch.Tensor | None, steps: int, h: torch.Tensor) -> Increments:
        if noise is not None:
            return given(noise)
        if self.checkpointed and isinstance(self.draws, SourceDraws) and not self.draws.repeatable:
            return given(normals_from(self.draws.source, steps, h))
        return Drawn(self, self.next_call(), steps)

    def extra_repr(self) -> str:
        """Grid, integrator and diffusion, for `print(model)`."""
        return f"{self.grid}, {self.integrator}, {self.diffusion}"
