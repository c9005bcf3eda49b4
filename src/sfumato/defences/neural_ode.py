"""Residual blocks as neural ODEs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sfumato.defences.drop_in import DropIn
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.choice import integrator_named


@dataclass(frozen=True, kw_only=True)
class NeuralODE(DropIn):
    """Residual blocks h + F(h) become solvers of dh/dt = F(h) / T with the same weights (Chen et al., 2018).

    That neural ODEs leak less is a claim of Hong, Wu, Gruber and Lee (arXiv 2501.06686), to be measured here. It gives
    no guarantee. See `DropIn` for the other fields.

    Args:
        steps: of the grid, at least 1.
        horizon: T.
        integrator: name; "euler", "midpoint", "rk4", ...
        checkpointed: run each step again in the backward pass instead of keeping its activations.
    """

    name: ClassVar[str] = "neural-ode"
    family: ClassVar[str] = "empirical"
    reference: ClassVar[str] = "hong2025modeling"
    summary: ClassVar[str] = "Residual blocks become neural ODEs with the same weights; no guarantee."
    bibtex: ClassVar[str] = """@article{hong2025modeling,
  author = {Hong, Sanghyun and Wu, Fan and Gruber, Anthony and Lee, Kookjin},
  title = {Modeling Neural Networks with Privacy Using Neural Stochastic Differential Equations},
  journal = {arXiv preprint arXiv:2501.06686},
  year = {2025}
}"""

    steps: int = 6
    horizon: float = 1.0
    integrator: str = "euler"
    checkpointed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        Grid(horizon=self.horizon, steps=self.steps)
        integrator_named(self.integrator)

    @property
    def couples(self) -> str:  # type: ignore[override] - depends on the integrator
        """Why its solver makes one example's loss depend on others, or ""."""
        return integrator_named(self.integrator).couples

    def solver(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "horizon": self.horizon,
            "integrator": self.integrator,
            "checkpointed": self.checkpointed,
        }
