"""IF-GMI-style: after the latents, the feature maps inside the generator, each within an L1 ball around its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.latent_descent import Found, Hunt, LatentDescent, made, minimise
from sfumato.attacks.inversion.ppa import BETAS, robustly_judged, sampled_starts, selection_views, viewed_loss
from sfumato.attacks.inversion.views import DRAWS, Views
from sfumato.errors import NotApplicable
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, positive


def into_l1_ball(change: torch.Tensor, radius: float) -> torch.Tensor:
    """The nearest point of the L1 ball of this radius to each row, by sorting (Duchi et al., ICML 2008).

    Args:
        change: float [b, n].
        radius: above 0.

    Returns:
        float [b, n]; a row inside the ball stays as it is.
    """
    size = change.abs()
    falling = size.sort(dim=1, descending=True).values
    excess = falling.cumsum(dim=1) - radius
    ranks = torch.arange(1, change.shape[1] + 1).to(falling)
    last = (falling * ranks > excess).sum(dim=1, keepdim=True).clamp(min=1)
    threshold = (excess.gather(1, last - 1) / last).clamp(min=0.0)
    return change.sign() * (size - threshold).clamp(min=0.0)


def keep_near(x: torch.Tensor, start: torch.Tensor, radius: float) -> None:
    """Move x [b, ...] in place so that its change from the start lies in an L1 ball of `radius` for each number."""
    change = (x - start).flatten(1)
    x.copy_(start + into_l1_ball(change, radius * change.shape[1]).reshape(x.shape))


@dataclass(frozen=True, eq=False)
class Inside:
    """Where the search stands: at one stage of the generator.

    Args:
        hunt: see there.
        stage: 0 for the latents alone.
        z: float [b, latent].
        hidden: float [b, ...], the feature map in front of block `stage`; z itself at stage 0.
    """

    hunt: Hunt
    stage: int
    z: torch.Tensor
    hidden: torch.Tensor

    @property
    def _labels(self) -> torch.Tensor | None:
        return self.hunt.rows if self.hunt.generator.conditional else None

    def records(self) -> torch.Tensor:
        """float [b, *shape]: what the generator makes from here."""
        generator = self.hunt.generator
        if self.stage == 0:
            return made(generator, self.z, self.hunt.rows)
        return generator.enter(self.stage, self.hidden, self.z, self._labels)

    def moved(self, steps: int, learning_rate: float, radius: float, views: Views) -> Inside:
        """After some steps of Adam on the Poincare loss of random views, each followed by the projection."""
        z, hidden = (x.detach().clone().requires_grad_() for x in (self.z, self.hidden))
        here = Inside(self.hunt, self.stage, z, hidden)
        moving = {z: self.z} if self.stage == 0 else {z: self.z, hidden: self.hidden}
        stream, count = self.hunt.streams("if-gmi", "crops", self.stage), self.hunt.starts.shape[1]

        def project() -> None:
            for x, start in moving.items():
                keep_near(x, start, radius)

        def loss() -> torch.Tensor:
            return viewed_loss(self.hunt, here.records(), views, stream.uniform(count, DRAWS))

        minimise(list(moving), torch.optim.Adam(list(moving), lr=learning_rate, betas=BETAS), loss, steps, project)
        return Inside(self.hunt, self.stage, z.detach(), hidden.detach() if self.stage else z.detach())

    def onward(self) -> Inside:
        """In front of the next block."""
        generator, labels = self.hunt.generator, self._labels
        with torch.no_grad():
            hidden = (
                generator.hidden(1, self.z, labels)
                if self.stage == 0
                else generator.onward(self.stage, self.hidden, self.z, labels)
            )
        return Inside(self.hunt, self.stage + 1, self.z, hidden)


@dataclass(frozen=True, kw_only=True)
class IFGMI(LatentDescent):
    """PPA's latents first, then the latents and the feature map in front of each block of the generator in turn.

    Published numbers are for a StyleGAN2 at 224 x 224: eight stages of 50 or 70, then 10 or 25 steps of Adam at rate
    0.005; L1 radii from 1000 to 8000, for the latents and the feature map alike; 50 candidates, all of which count. A
    small generator has few blocks and small feature maps, so the radius is given for each number, and the guesses are
    the candidates with the highest mean confidence over random views. Results do not compare with those published.

    Args:
        images: guesses for each class.
        samples: latents that are drawn first, for all classes together.
        candidates: of which as many are kept for each class, none twice.
        steps: of Adam on the latents.
        steps_inside: of Adam at each block.
        learning_rate: of Adam.
        radius: of the L1 ball around the start of a stage, divided by the numbers that may change.
        area: smallest share of the picture in a crop.
        views: random views in the final ranking.
        mirror: whether mirror images count; not where left and right differ (digits, text).
    """

    name: ClassVar[str] = "if-gmi"
    reference: ClassVar[str] = "qiu2024closer"
    bibtex: ClassVar[str] = """@inproceedings{qiu2024closer,
  title = {A Closer Look at {GAN} Priors: Exploiting Intermediate Features for Enhanced Model Inversion Attacks},
  author = {Qiu, Yixiang and Fang, Hao and Yu, Hongyao and Chen, Bin and Qiu, MeiKang and Xia, Shu-Tao},
  booktitle = {European Conference on Computer Vision},
  note = {arXiv:2407.13863},
  year = {2024}
}"""
    summary: ClassVar[str] = "IF-GMI-style: PPA's search, then inside the generator, block by block."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="Public records of other classes, or a generator of such records."
    )

    prior: str = "wgan-gp"
    samples: int = 500
    candidates: int = 10
    steps: int = 70
    steps_inside: int = 25
    learning_rate: float = 0.05
    radius: float = 0.25
    area: float = 0.9
    views: int = 25
    mirror: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("candidates", self.candidates, self.images)
        at_least("samples", self.samples, self.candidates)
        for name in ("steps", "steps_inside", "views"):
            at_least(name, getattr(self, name), 1)
        for name in ("learning_rate", "radius"):
            positive(name, getattr(self, name))
        in_range("area", self.area, 0.01, 1.0)

    @classmethod
    def example(cls) -> IFGMI:
        return cls(images=2, samples=100, candidates=3, steps=15, steps_inside=5, views=5, mirror=False)

    def starts(self, generator: Generator, evidence: ClassEvidence) -> torch.Tensor:
        if generator.stages < 2:
            raise NotApplicable(f"needs a generator with blocks to enter, got {self.prior!r}, which has none")
        return sampled_starts(generator, evidence, self.samples, self.candidates, self.mirror)

    def search(self, hunt: Hunt, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Found:
        views, z = Views(area=(self.area, 1.0)), hunt.starts.flatten(0, 1)
        inside = Inside(hunt, 0, z, z).moved(self.steps, self.learning_rate, self.radius, views)
        for _ in range(1, hunt.generator.stages):
            inside = inside.onward().moved(self.steps_inside, self.learning_rate, self.radius, views)
        with torch.no_grad():
            records = inside.records()
        return robustly_judged(hunt, records, selection_views(self.mirror), self.views)
