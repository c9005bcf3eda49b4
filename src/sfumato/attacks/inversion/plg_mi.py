"""PLG-MI: descent on the margin of the class, in the latents of a generator that takes the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.generators.plg_gan import max_margin
from sfumato.attacks.inversion.latent_descent import Found, Hunt, LatentDescent, made, minimise, several_starts
from sfumato.attacks.inversion.views import DRAWS, Views
from sfumato.errors import NotApplicable
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, positive


@dataclass(frozen=True, kw_only=True)
class PLGMI(LatentDescent):
    """Max-margin descent over the latents of a conditional GAN that was made with the model's pseudo-labels.

    Published: 600 steps of Adam at rate 0.1, each over two views (crops of 0.8 to 1 of the area, jitter 0.2, mirrors,
    turns of 5 degrees), five seeds, under a GAN of 30,000 iterations on faces of 64 x 64. The default has a quarter of
    the steps.

    Args:
        images: guesses for each class, the best of the restarts.
        steps: of Adam.
        learning_rate: of Adam.
        restarts: starts for each class; five for each guess that is kept, of which the surest ones are.
        views: of each guess in a step.
        area: smallest share of the picture in a view.
        mirror: share of views that are mirrored; 0 where left and right differ (digits, text).
    """

    name: ClassVar[str] = "plg-mi"
    reference: ClassVar[str] = "yuan2023pseudo"
    bibtex: ClassVar[str] = """@inproceedings{yuan2023pseudo,
  title = {Pseudo Label-Guided Model Inversion Attack via Conditional Generative Adversarial Network},
  author = {Yuan, Xiaojian and Chen, Kejiang and Zhang, Jie and Zhang, Weiming and Yu, Nenghai and Zhang, Yang},
  booktitle = {AAAI Conference on Artificial Intelligence},
  note = {arXiv:2302.09814},
  year = {2023}
}"""
    summary: ClassVar[str] = "Descent on the margin of the class, under a GAN that takes the class."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="Public records of other classes, and what the model answers on them."
    )

    prior: str = "plg-gan"
    steps: int = 150
    learning_rate: float = 0.1
    restarts: int = 25
    views: int = 2
    area: float = 0.8
    mirror: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "views"):
            at_least(name, getattr(self, name), 1)
        at_least("restarts", self.restarts, self.images)
        positive("learning_rate", self.learning_rate)
        in_range("mirror", self.mirror, 0.0, 1.0)
        self.seen  # noqa: B018 - refuses an area out of range now, not in the middle of an attack

    @classmethod
    def example(cls) -> PLGMI:
        return cls(images=2, steps=20, restarts=2, mirror=0.0)

    @property
    def seen(self) -> Views:
        """How views are drawn."""
        return Views(area=(self.area, 1.0), ratio=(3 / 4, 4 / 3), mirror=self.mirror, turn=5.0, jitter=0.2)

    def starts(self, generator: Generator, evidence: ClassEvidence) -> torch.Tensor:
        if not generator.conditional:
            raise NotApplicable(f"needs a generator that takes the class, got {self.prior!r}, which does not")
        return several_starts(generator, evidence, self.restarts, self.method)

    def search(self, hunt: Hunt, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Found:
        labels, z = hunt.rows, hunt.starts.flatten(0, 1).clone().requires_grad_()
        stream, count = hunt.streams(self.method, "views"), hunt.starts.shape[1]

        def loss() -> torch.Tensor:
            records = made(hunt.generator, z, labels).repeat(self.views, 1, 1, 1)
            draws = stream.uniform(count, self.views, DRAWS).flatten(0, 1).transpose(0, 1).flatten(0, 1)
            margins = max_margin(hunt.oracle.logits(self.seen.of(records, draws)), labels.repeat(self.views))
            return margins.unflatten(0, (self.views, -1)).sum(dim=0)

        minimise([z], torch.optim.Adam([z], lr=self.learning_rate), loss, self.steps)
        return hunt.found(z.detach().unflatten(0, hunt.starts.shape[:2]))
