"""PPA-style: many latents, the best for each class, the Poincare loss under random crops, and a robust selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.latent_descent import BLOCK, Found, Hunt, LatentDescent, made, minimise
from sfumato.attacks.inversion.views import DRAWS, Views
from sfumato.seeding import torch_stream
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, positive

BETAS = (0.1, 0.1)  # of Adam, as published
SLACK = 1e-4  # by which the class's point stays inside the ball
FLOOR = 1e-6  # of distances that are divided by, so that logits of one class alone have a gradient
ROBUST = Views(area=(0.5, 0.9), ratio=(0.8, 1.2), mirror=0.5)


def poincare_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Distance in the Poincare ball from the logits to the class, float [b]. Struppek et al., ICML 2022.

    u = logits / |logits|_1, v = the class's unit vector less 1e-4, not below 0;
    arccosh(1 + 2 |u - v|^2 / ((1 - |u|^2) (1 - |v|^2))).

    Args:
        logits: float [b, classes].
        labels: int64 [b].
    """
    u = logits / logits.abs().sum(dim=1, keepdim=True).clamp(min=FLOOR)
    v = (F.one_hot(labels, logits.shape[1]).to(u) - SLACK).clamp(0.0, 1.0)
    room = ((1 - u.square().sum(dim=1)) * (1 - v.square().sum(dim=1))).clamp(min=FLOOR * SLACK)
    return torch.acosh(1 + (2 * (u - v).square().sum(dim=1) / room).clamp(min=FLOOR))


def mirrored_confidence(oracle: Oracle, x: torch.Tensor, mirror: bool) -> torch.Tensor:
    """float [b, classes]: mean softmax over pictures [b, channels, height, width] and, if asked for, their mirrors."""
    with torch.no_grad():
        parts = [x, x.flip(3)] if mirror else [x]
        return torch.stack([oracle.logits(part).softmax(dim=1) for part in parts]).mean(dim=0)


def preselected(
    oracle: Oracle, generator: Generator, labels: torch.Tensor, z: torch.Tensor, count: int, mirror: bool
) -> torch.Tensor:
    """For each class the latents of which the model is most sure, none twice.

    Args:
        oracle: the model.
        generator: of pictures.
        labels: int64 [q].
        z: float [n, latent], n of at least `count`; all classes choose from the same.
        count: how many for each class.
        mirror: whether the mirror image is judged, too.

    Returns:
        float [q, count, latent], the surest first.
    """
    rows = [_confidences(oracle, generator, labels, part, mirror) for part in z.split(BLOCK)]
    return z[torch.cat(rows, dim=1).topk(count, dim=1).indices]


def _confidences(
    oracle: Oracle, generator: Generator, labels: torch.Tensor, z: torch.Tensor, mirror: bool
) -> torch.Tensor:
    """[q, b]: confidence in each class of what latents [b, latent] make, of that class where the generator takes it."""
    with torch.no_grad():
        if not generator.conditional:
            return mirrored_confidence(oracle, generator(z), mirror)[:, labels].T
        each = [made(generator, z, label.expand(len(z))) for label in labels]
    return torch.stack([mirrored_confidence(oracle, x, mirror)[:, y] for x, y in zip(each, labels, strict=True)])


def viewed_loss(hunt: Hunt, x: torch.Tensor, views: Views, draws: torch.Tensor) -> torch.Tensor:
    """float [b]: the Poincare loss of one view of each guess [b, ...], b = q * r; uniform draws [q, r, DRAWS]."""
    return poincare_loss(hunt.oracle.logits(views.of(x, draws.flatten(0, 1))), hunt.rows)


def robust_confidence(
    oracle: Oracle, x: torch.Tensor, labels: torch.Tensor, views: Views, draws: torch.Tensor
) -> torch.Tensor:
    """float64 [b]: mean confidence in the class over random views.

    Args:
        oracle: the model.
        x: float [b, channels, height, width].
        labels: int64 [b].
        views: how they are drawn.
        draws: float [views, b, DRAWS], uniform.
    """
    with torch.no_grad():
        seen = [oracle.logits(views.of(x, row)).double().softmax(dim=1) for row in draws]
    return torch.stack(seen).mean(dim=0).gather(1, labels[:, None])[:, 0]


def robustly_judged(hunt: Hunt, x: torch.Tensor, views: Views, count: int) -> Found:
    """Guesses [b, ...], b = q * r, with the log of their mean confidence over `count` random views."""
    shape = hunt.starts.shape[:2]
    x = hunt.oracle.clamped(x.detach())
    draws = hunt.streams("ppa", "selection").uniform(shape[1], count, DRAWS).flatten(0, 1).transpose(0, 1)
    confidence = robust_confidence(hunt.oracle, x, hunt.rows, views, draws)
    tiny = torch.finfo(torch.float64).tiny
    return Found(x.unflatten(0, shape), confidence.clamp(min=tiny).log().unflatten(0, shape))


def sampled_starts(
    generator: Generator, evidence: ClassEvidence, samples: int, count: int, mirror: bool
) -> torch.Tensor:
    """float [q, count, latent]: for each class the best `count` of `samples` draws from the prior."""
    labels = torch.from_numpy(np.asarray(evidence.labels, dtype=np.int64))
    z = generator.sample(samples, torch_stream(evidence.seed, "ppa", "samples"))
    return preselected(evidence.oracle, generator, labels, z, count, mirror)


@dataclass(frozen=True, kw_only=True)
class PPA(LatentDescent):
    """The Plug & Play attack's search under a generator of the user's or a small one.

    Published numbers are for a StyleGAN2 at 224 x 224: 5000 samples of its w space, 200 kept for each class, 50 to 70
    steps of Adam at rate 0.005 with betas of 0.1, crops of 0.9 to 1 of the area, and 50 of 200 chosen by mean
    confidence over 100 views. Latents of a small generator are standard normal and not its w, so the default rate is
    ten times as high, and there are a tenth of the samples and candidates. Results do not compare with those published.

    Args:
        images: guesses for each class, chosen in the end.
        samples: latents that are drawn first, for all classes together.
        candidates: of which as many are kept for each class, none twice.
        steps: of Adam.
        learning_rate: of Adam.
        area: smallest share of the picture in a crop.
        views: random views in the final selection.
        mirror: whether mirror images count; not where left and right differ (digits, text).
    """

    name: ClassVar[str] = "ppa"
    reference: ClassVar[str] = "struppek2022plug"
    bibtex: ClassVar[str] = """@inproceedings{struppek2022plug,
  title = {Plug \\& Play Attacks: Towards Robust and Flexible Model Inversion Attacks},
  author = {Struppek, Lukas and Hintersdorf, Dominik and {De Almeida Correia}, Antonio and Adler, Antonia and
    Kersting, Kristian},
  booktitle = {International Conference on Machine Learning},
  note = {arXiv:2201.12179},
  year = {2022}
}"""
    summary: ClassVar[str] = "PPA-style: the best of many latents, moved by the Poincare loss under random crops."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="Public records of other classes, or a generator of such records."
    )

    samples: int = 500
    candidates: int = 20
    steps: int = 70
    learning_rate: float = 0.05
    area: float = 0.9
    views: int = 25
    mirror: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("candidates", self.candidates, self.images)
        at_least("samples", self.samples, self.candidates)
        for name in ("steps", "views"):
            at_least(name, getattr(self, name), 1)
        positive("learning_rate", self.learning_rate)
        in_range("area", self.area, 0.01, 1.0)

    @classmethod
    def example(cls) -> PPA:
        return cls(images=2, samples=100, candidates=4, steps=20, views=5, mirror=False)

    def starts(self, generator: Generator, evidence: ClassEvidence) -> torch.Tensor:
        return sampled_starts(generator, evidence, self.samples, self.candidates, self.mirror)

    def search(self, hunt: Hunt, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Found:
        z, shape = hunt.starts.flatten(0, 1).clone().requires_grad_(), hunt.starts.shape[:2]
        stream, views = hunt.streams(self.method, "crops"), Views(area=(self.area, 1.0))

        def loss() -> torch.Tensor:
            draws = stream.uniform(shape[1], DRAWS)
            return viewed_loss(hunt, made(hunt.generator, z, hunt.rows), views, draws)

        minimise([z], torch.optim.Adam([z], lr=self.learning_rate, betas=BETAS), loss, self.steps)
        with torch.no_grad():
            records = made(hunt.generator, z, hunt.rows)
        return robustly_judged(hunt, records, selection_views(self.mirror), self.views)


def selection_views(mirror: bool) -> Views:
    """The views of the final selection, with or without mirror images."""
    return ROBUST if mirror else Views(area=ROBUST.area, ratio=ROBUST.ratio)
