"""Neural SDE network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sfumato.errors import UsageError
from sfumato.models.continuous import ContinuousFamily
from sfumato.sde.diffusions.choice import diffusion_named
from sfumato.sde.integrators.choice import integrator_named


@dataclass(frozen=True, kw_only=True)
class SDENet(ContinuousFamily):
    """A stem, one neural SDE (Liu et al., 2019) and a head. See `ContinuousFamily` for the other fields.

    The noise is no mechanism in the sense of differential privacy: whatever `sigma`, it yields no epsilon.

    Args:
        diffusion: name of the diffusion field.
        sigma: its strength, at least 0; per unit of time, so at T = 1 additive noise adds up to variance sigma^2. The
            default of 0.1 is our choice, small beside the normalised drift; no published setting stands behind it.
        noise_at_test: whether a trained network answers with noise.
    """

    name: ClassVar[str] = "sde-net"
    reference: ClassVar[str] = "liu2019neural"
    bibtex: ClassVar[str] = """@article{liu2019neural,
  author = {Liu, Xuanqing and Xiao, Tesi and Si, Si and Cao, Qin and Kumar, Sanjiv and Hsieh, Cho-Jui},
  title = {Neural {SDE}: Stabilizing Neural {ODE} Networks with Stochastic Noise},
  journal = {arXiv preprint arXiv:1906.02355},
  year = {2019}
}"""

    integrator: str = "euler-maruyama"
    diffusion: str = "additive"
    sigma: float = 0.1
    noise_at_test: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        diffusion_named(self.diffusion, self.sigma)
        if not integrator_named(self.integrator).stochastic:
            raise UsageError(
                f"Expected an integrator for equations with noise for {self.name!r}, got {self.integrator!r}.",
                remedy='Use "euler-maruyama", "milstein" or "stochastic-heun", or the model "ode-net".',
            )

    def body(self, state: tuple[int, ...]) -> list[nn.Module]:
        return [self.solver(state, diffusion_named(self.diffusion, self.sigma), noise_at_test=self.noise_at_test)]
