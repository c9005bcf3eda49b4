"""Residual perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sfumato.defences.drop_in import DropIn
from sfumato.sde.block import Schedule
from sfumato.sde.diffusions.choice import diffusion_named
from sfumato.validate import one_of

STRATEGIES = ("additive", "multiplicative")


@dataclass(frozen=True, kw_only=True)
class ResidualPerturbation(DropIn):
    """Gaussian noise in every residual mapping: h + F(h) + sigma xi, or h + F(h) + sigma h xi.

    A reconstruction: known to us of Tao, Ling, Shi and Wang (arXiv 2408.05723) is that they add Gaussian noise in every
    residual mapping, see it as a stochastic differential equation, and have two strategies. That these are the additive
    and the multiplicative one is our reading, and so is everything else here. They claim differential privacy; here it
    counts as empirical, because noise in the forward pass does not make weights differentially private. See `DropIn`
    for the other fields.

    Args:
        strategy: "additive" or "multiplicative".
        sigma: strength of the noise, at least 0.
        ramp: share of the training, after `start`, over which the noise rises from 0.
        noise_at_test: whether the trained network answers with noise.
    """

    name: ClassVar[str] = "residual-perturbation"
    family: ClassVar[str] = "empirical"
    reference: ClassVar[str] = "tao2024residual"
    summary: ClassVar[str] = "Gaussian noise in every residual mapping (a reconstruction); no guarantee."
    bibtex: ClassVar[str] = """@article{tao2024residual,
  author = {Tao, Wenqi and Ling, Huaming and Shi, Zuoqiang and Wang, Bao},
  title = {Deep Learning with Data Privacy via Residual Perturbation},
  journal = {arXiv preprint arXiv:2408.05723},
  year = {2024}
}"""

    strategy: str = "additive"
    sigma: float = 0.1
    ramp: float = 0.0
    noise_at_test: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("strategy", self.strategy, STRATEGIES)
        diffusion_named("additive", self.sigma)

    def schedule(self) -> Schedule:
        return Schedule(start=self.start, ramp=self.ramp)

    def solver(self) -> dict[str, Any]:
        diffusion = diffusion_named(self.strategy, self.sigma)
        return {"steps": 1, "diffusion": diffusion, "noise_at_test": self.noise_at_test}
