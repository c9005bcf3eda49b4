"""Residual blocks as neural SDEs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sfumato.defences.drop_in import DropIn
from sfumato.defences.neural_ode import NeuralODE
from sfumato.errors import UsageError
from sfumato.sde.block import Schedule
from sfumato.sde.diffusions.choice import diffusion_named
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.choice import integrator_named


@dataclass(frozen=True, kw_only=True)
class NeuralSDE(DropIn):
    """Residual blocks h + F(h) become solvers of dh = F(h) / T dt + g(h) dW with the same weights.

    The idea is that of Hong, Wu, Gruber and Lee (arXiv 2501.06686), whose text we do not have: what stands here is our
    own drop-in, with settings of published neighbours. Whatever the noise, it yields no guarantee for the weights. See
    `DropIn` for the other fields.

    Args:
        steps: of the grid, at least 1.
        horizon: T.
        integrator: name; one that takes noise.
        diffusion: name of the diffusion field.
        sigma: its strength, at least 0.
        ramp: share of the training, after `start`, over which the noise rises from 0.
        noise_at_test: whether the trained network answers with noise.
        checkpointed: run each step again in the backward pass instead of keeping its activations.
    """

    name: ClassVar[str] = "neural-sde"
    family: ClassVar[str] = "empirical"
    reference: ClassVar[str] = NeuralODE.reference
    summary: ClassVar[str] = "Residual blocks become neural SDEs with the same weights; no guarantee."
    bibtex: ClassVar[str] = NeuralODE.bibtex

    steps: int = 6
    horizon: float = 1.0
    integrator: str = "euler-maruyama"
    diffusion: str = "additive"
    sigma: float = 0.1
    ramp: float = 0.0
    noise_at_test: bool = True
    checkpointed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        Grid(horizon=self.horizon, steps=self.steps)
        diffusion_named(self.diffusion, self.sigma)
        if not integrator_named(self.integrator).stochastic:
            raise UsageError(
                f"Expected an integrator for equations with noise for {self.name}, got {self.integrator!r}.",
                remedy='Use "euler-maruyama", "milstein" or "stochastic-heun", or the defence "neural-ode".',
            )

    @property
    def couples(self) -> str:  # type: ignore[override] - depends on the integrator
        """Why its solver makes one example's loss depend on others, or ""."""
        return integrator_named(self.integrator).couples

    def schedule(self) -> Schedule:
        return Schedule(start=self.start, ramp=self.ramp)

    def solver(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "horizon": self.horizon,
            "integrator": self.integrator,
            "diffusion": self.diffusion,
            "sigma": self.sigma,
            "noise_at_test": self.noise_at_test,
            "checkpointed": self.checkpointed,
        }
