"""A block of which it is known how much its noise hides of one input from whoever sees its answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from sfumato.accounting.local import InputGuarantee, Path, input_guarantee
from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.noise.system import SystemNoise
from sfumato.private.radius import within
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.diffusions.base import DiffusionField
from sfumato.sde.integrate import Grid, integrate
from sfumato.sde.integrators.base import Integrator
from sfumato.sde.integrators.euler_maruyama import EulerMaruyama
from sfumato.sde.lipschitz import ACTIVATIONS, ROUNDING, Enforced, enforced, matrix_norm, refuse_unbounded
from sfumato.sde.streams import StreamLayer, normals
from sfumato.sde.system import System
from sfumato.validate import at_least, positive


class _Factor(NamedTuple):
    """Lipschitz constant of one step, and whether the step is linear."""

    value: float
    linear: bool


class PrivateInputBlock(StreamLayer):
    """Clips h_0, and takes N steps h + (g(h) - decay h) dt + sigma dW, with the Lipschitz constant of g enforced.

    What is proved is about the *input*: whoever sees h_N, and what is computed from it, learns little about h_0 (see
    `sfumato.accounting.local`). It says nothing about the data that the weights were trained on. The noise comes from
    the operating system, in training mode as in eval mode, unless the layer was given seeded streams (`set_noise`), as
    trainings and audits do.

    Intermediate states are no part of what may be seen. In the layers' shape, useful noise is many times as long as the
    signal: put the block behind a bottleneck of few dimensions.

    Args:
        layers: of g: plain linear layers, convolutions that keep the shape, and activations of slope at most 1.
        grid: horizon and steps.
        diffusion: additive, with sigma above 0.
        radius: L2 norm to which h_0 is clipped, above 0.
        lipschitz: L, enforced for g, above 0; a public number. Each step is Lipschitz with |1 - decay dt| + L dt.
        shape: of one state.
        decay: at least 0; one larger than L makes each step a contraction, so that noise adds up and inputs do not.
        integrator: Euler-Maruyama.

    Raises:
        NotPrivateError: for a layer, diffusion or integrator for which the bound does not hold.
    """

    answers_at_random = True

    def __init__(
        self,
        layers: Sequence[nn.Module],
        grid: Grid,
        diffusion: DiffusionField,
        *,
        radius: float,
        lipschitz: float,
        shape: tuple[int, ...],
        decay: float = 0.0,
        integrator: Integrator | None = None,
    ) -> None:
        super().__init__()
        refuse_unbounded(layers)
        _refuse_equation(diffusion, integrator)
        positive("radius", radius)
        positive("lipschitz", lipschitz)
        at_least("decay", decay, 0)
        self.layers = nn.ModuleList(layers)
        self.grid, self.diffusion, self.integrator = grid, diffusion, EulerMaruyama()
        self.radius, self.lipschitz, self.shape, self.decay = radius, lipschitz, tuple(shape), decay

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """[batch, *shape] to the same: h_N.

        Raises:
            UsageError: for states of another shape, or layers that change it.
        """
        if tuple(h.shape[1:]) != self.shape:
            raise UsageError(
                f"Expected states of shape {self.shape}, got {tuple(h.shape[1:])}.",
                remedy="The bound is for the shape that the block was made for.",
            )
        drift = self._drift()
        system = System(
            lambda _, state: self._kept(drift.apply(state), state),
            lambda _, h, __: h.new_full((), self.diffusion.sigma),
        )
        level = 0.0 if self.noise == "off" else 1.0
        start = within(h, self.radius)
        return integrate(self.integrator, system, start, self.grid, self._normals(), level=level)

    def guarantee(self, delta: float, *, queries: int) -> InputGuarantee:
        """What the block, with its weights and streams as they are now, hides of one input.

        Args:
            delta: in (0, 1).
            queries: answers that are given to the same input, over its whole life; nobody counts them here.

        Raises:
            NotPrivateError: while its noise is off, or shared between records.
        """
        if self.noise != "fresh":
            raise NotPrivateError(
                f"Expected fresh noise for each answer, got noise {self.noise!r}.",
                remedy="Call `set_noise(model, None)`; a drift without noise is for audits of your own.",
            )
        step = self._factor()
        path = Path(self.diffusion.sigma, self.grid.dt, (step.value,) * self.grid.steps)
        return input_guarantee(
            delta, self.radius, path, queries=queries, linear=step.linear, audit_only=self.draws is not None
        )

    def _drift(self) -> Enforced:
        return enforced(list(self.layers), self.lipschitz, self.shape)

    def _kept(self, drift: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        if drift.shape != state.shape:
            raise UsageError(
                f"Expected layers that keep states of shape {self.shape}, got {tuple(drift.shape[1:])}.",
                remedy="Choose widths and padding so that the last layer gives what the first one takes.",
            )
        return drift if self.decay == 0 else drift - self.decay * state

    def _factor(self) -> _Factor:
        """What is enforced; of a single linear layer also what its weights are, where that is less."""
        dt, decay = self.grid.dt, self.decay
        value = abs(1 - decay * dt) + self._drift().lipschitz * dt
        weighted = [layer for layer in self.layers if not isinstance(layer, ACTIVATIONS)]
        linear = all(type(layer) is nn.Identity for layer in self.layers if isinstance(layer, ACTIVATIONS))
        if linear and len(weighted) == 1 and isinstance(weighted[0], nn.Linear):
            value = min(value, self._exact(weighted[0]))
        return _Factor(value * (1 + ROUNDING * dt), linear)

    def _exact(self, layer: nn.Linear) -> float:
        """The norm of (1 - decay dt) I + dt W, with W as it is applied."""
        width, dt = layer.in_features, self.grid.dt
        applied = self._drift().apply
        with torch.no_grad():
            eye = torch.eye(width, dtype=layer.weight.dtype, device=layer.weight.device)
            matrix = (applied(eye) - applied(torch.zeros_like(eye))).T.double()
        return float(matrix_norm((1 - self.decay * dt) * torch.eye(width, dtype=torch.float64) + dt * matrix.cpu()))

    def _normals(self) -> Callable[[int, torch.Tensor], torch.Tensor]:
        if self.draws is not None:
            call = self.next_call()
            return lambda step, h: normals(self, call, step, h)
        source = SystemNoise()
        if self.noise == "common":
            return lambda _, h: source.fill(torch.empty_like(h[:1])).expand_as(h)
        return lambda _, h: source.fill(torch.empty_like(h, memory_format=torch.contiguous_format))

    def extra_repr(self) -> str:
        """The public numbers, for `print(model)`."""
        return f"{self.grid}, {self.diffusion}, radius={self.radius:g}, lipschitz={self.lipschitz:g}"


def _refuse_equation(diffusion: DiffusionField, integrator: Integrator | None) -> None:
    if type(diffusion) is not Additive:
        raise NotPrivateError(
            f"Expected additive noise, got {diffusion.name!r}: noise that depends on the state, or is "
            "learned, may be as small as the state makes it.",
            remedy="Use Additive(sigma=...).",
        )
    if not 0 < diffusion.sigma < math.inf:
        raise NotPrivateError(
            f"Expected noise, got sigma {diffusion.sigma!r}.", remedy="`calibrate_sigma` gives one for a target."
        )
    if integrator is not None and type(integrator) is not EulerMaruyama:
        raise NotPrivateError(
            f"Expected Euler-Maruyama on a fixed grid, got {integrator.name!r}, of whose steps no Lipschitz constant "
            "is known here.",
            remedy="Leave `integrator` out.",
        )
