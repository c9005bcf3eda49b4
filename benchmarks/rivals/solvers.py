"""Ways through N evaluations of a drift, forward and backward: our blocks, residual blocks, torchsde, torchdiffeq.

A plain way ends with gradients of the mean loss in the parameters and in the input; a way called "...-each" with the
sum of the per-example gradients of the parameters, each clipped to norm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from rivals.vmapped import clipped_sum
from sfumato.private.engine import Engine
from sfumato.private.noise.system import SystemNoise
from sfumato.sde import Grid, SDEBlock, set_noise
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.drifts.convolutional import ConvDrift, group_norm
from sfumato.sde.drifts.dense import DenseDrift
from sfumato.sde.integrators.euler import Euler
from sfumato.sde.integrators.euler_maruyama import EulerMaruyama
from sfumato.sde.noise import SourceDraws
from sfumato.sde.streams import NoiseDraws
from sfumato.training.draws import Draws

SIGMA = 0.1
CLIP = 1.0


@dataclass(frozen=True)
class Setting:
    """A state, a batch and a number of steps."""

    shape: tuple[int, ...]
    batch: int
    steps: int

    def state(self) -> torch.Tensor:
        """[batch, *shape]."""
        return torch.randn(self.batch, *self.shape, generator=torch.Generator().manual_seed(1))

    def drift(self) -> nn.Module:
        """The field of every solver: the shipped one for images or for tables."""
        torch.manual_seed(0)
        return ConvDrift(self.shape[0]) if len(self.shape) == 3 else DenseDrift(self.shape[0], self.shape[0])


Step = Callable[[], object]
Prepare = Callable[[Setting], Step]


def losses(out: torch.Tensor) -> torch.Tensor:
    """One loss per row, [rows]."""
    return out.flatten(1).square().mean(1)


class Residual(nn.Module):
    """h + F(h), where F is `ConvDrift` without its time input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        parts = [layer for conv in convs for layer in (group_norm(channels), nn.ReLU(), conv)]
        self.branch = nn.Sequential(*parts, group_norm(channels))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.branch(h)


def residual(setting: Setting) -> nn.Module:
    """As many residual blocks as there are steps."""
    torch.manual_seed(0)
    return nn.Sequential(*(Residual(setting.shape[0]) for _ in range(setting.steps)))


def block(setting: Setting, *, noisy: bool) -> SDEBlock:
    """Our block over the field."""
    grid = Grid(horizon=1.0, steps=setting.steps)
    if noisy:
        return SDEBlock(setting.drift(), grid, EulerMaruyama(), Additive(sigma=SIGMA))
    return SDEBlock(setting.drift(), grid, Euler())


def streams(step: int) -> NoiseDraws:
    """Fresh named streams for each step, as in a training."""
    return Draws((1,), ("training", 0, step))


def whole(make: Callable[[Setting], nn.Module], draws: Callable[[int], NoiseDraws] | None = None) -> Prepare:
    """Forward and backward of a module."""

    def prepare(setting: Setting) -> Step:
        model, state, steps = make(setting), setting.state().requires_grad_(), count()

        def step() -> None:
            clear(model, state)
            if draws is not None:
                set_noise(model, draws(next(steps)))
            losses(model(state)).mean().backward()

        return step

    return prepare


def each(make: Callable[[Setting], nn.Module], draws: Callable[[int], NoiseDraws] | None = None) -> Prepare:
    """Clipped sums by the engine of `sfumato.private`."""

    def prepare(setting: Setting) -> Step:
        model, state, steps = make(setting), setting.state(), count()
        engine, weights = Engine(model), torch.ones(setting.batch)

        def on(rows: torch.Tensor) -> torch.Tensor:
            if draws is not None:
                set_noise(model, draws(next(steps)))
            return losses(model(rows))

        engine.learn(lambda rows: on(state[[row % setting.batch for row in rows]]))

        def step() -> dict[str, torch.Tensor]:
            sums: dict[str, torch.Tensor] = {}
            engine.add(lambda: on(state), weights, setting.batch, clip, sums)
            return sums

        return step

    return prepare


def clip(squared: torch.Tensor) -> torch.Tensor:
    """Flat clipping: multipliers of the shape of squared norms [units, parameters]."""
    return (CLIP / squared.sum(1, keepdim=True).sqrt()).clamp(max=1).expand_as(squared)


def clear(model: nn.Module, state: torch.Tensor) -> None:
    """No gradients from the last step."""
    model.zero_grad(set_to_none=True)
    state.grad = None


class ForLibraries(nn.Module):
    """The field as torchsde and torchdiffeq call it; torchsde's states are flat."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.drift, self.shape = setting.drift(), setting.shape

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.drift(float(t.detach()), y.reshape(-1, *self.shape)).flatten(1)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.full_like(y, SIGMA)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.drift(float(t.detach()), y)


@dataclass
class Given:
    """A Brownian motion whose increments were drawn beforehand, [N, batch, ...]."""

    increments: torch.Tensor
    levy_area_approximation: str = "none"
    calls: count = field(default_factory=count)

    @property
    def shape(self) -> torch.Size:
        """Of one increment; torchsde asks."""
        return self.increments.shape[1:]

    def __call__(self, start: object, end: object) -> torch.Tensor:
        step = next(self.calls)  # times are added up in float32, so there may be one more, of almost no length
        return self.increments[step] if step < len(self.increments) else torch.zeros_like(self.increments[0])


def by_torchsde(setting: Setting, *, adjoint: bool = False) -> Step:
    """torchsde's Euler-Maruyama with its own Brownian motion."""
    import torchsde

    model, state = ForLibraries(setting), setting.state().requires_grad_()
    solve = torchsde.sdeint_adjoint if adjoint else torchsde.sdeint
    ends = torch.tensor([0.0, 1.0])

    def step() -> None:
        clear(model, state)
        out = solve(model, state.flatten(1), ends, dt=1 / setting.steps, method="euler")
        losses(out[-1]).mean().backward()

    return step


def by_torchsde_each(setting: Setting) -> Step:
    """The same under vmap, which needs the Brownian path to be given."""
    import torchsde

    model, state = ForLibraries(setting), setting.state()
    root = setting.steps**-0.5

    class Solved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, h: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            ends, motion = torch.tensor([0.0, 1.0]), Given(noise * root)
            return torchsde.sdeint(self.model, h, ends, dt=1 / setting.steps, method="euler", bm=motion)[-1]  # type: ignore[arg-type]

    flat = state.flatten(1)
    return _vmapped(Solved(), flat, lambda: torch.randn(setting.steps, *flat.shape))


def by_torchdiffeq(setting: Setting, *, adjoint: bool = False) -> Step:
    """torchdiffeq's Euler on the same grid."""
    import torchdiffeq

    model, state = ForLibraries(setting), setting.state().requires_grad_()
    solve = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
    ends, options = torch.tensor([0.0, 1.0]), {"step_size": 1 / setting.steps}

    def step() -> None:
        clear(model, state)
        losses(solve(model, state, ends, method="euler", options=options)[-1]).mean().backward()

    return step


def by_torchdiffeq_each(setting: Setting) -> Step:
    """The same under vmap."""
    import torchdiffeq

    model, state = ForLibraries(setting), setting.state()

    class Solved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, h: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            ends, options = torch.tensor([0.0, 1.0]), {"step_size": 1 / setting.steps}
            return torchdiffeq.odeint(self.model, h, ends, method="euler", options=options)[-1]

    return _vmapped(Solved(), state, lambda: torch.zeros(1, setting.batch))


def _vmapped(solved: nn.Module, state: torch.Tensor, noise: Callable[[], torch.Tensor]) -> Step:
    def loss(parameters: dict[str, torch.Tensor], h: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        return losses(functional_call(solved, parameters, (h.unsqueeze(0), path.unsqueeze(1))))[0]

    gradients = vmap(grad(loss), in_dims=(None, 0, 1))
    held = {name: parameter.detach() for name, parameter in solved.named_parameters()}
    return lambda: clipped_sum(gradients(held, state, noise()), CLIP)


WAYS: dict[str, Prepare] = {
    "residual": whole(residual),
    "ode": whole(lambda setting: block(setting, noisy=False)),
    "sde": whole(lambda setting: block(setting, noisy=True), streams),
    "sde-cryptographic": whole(lambda setting: block(setting, noisy=True), lambda _: SourceDraws(SystemNoise())),
    "residual-each": each(residual),
    "ode-each": each(lambda setting: block(setting, noisy=False)),
    "sde-each": each(lambda setting: block(setting, noisy=True), streams),
    "torchsde": by_torchsde,
    "torchsde-adjoint": lambda setting: by_torchsde(setting, adjoint=True),
    "torchsde-each": by_torchsde_each,
    "torchdiffeq": by_torchdiffeq,
    "torchdiffeq-adjoint": lambda setting: by_torchdiffeq(setting, adjoint=True),
    "torchdiffeq-each": by_torchdiffeq_each,
}
