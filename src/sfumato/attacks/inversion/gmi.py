"""GMI: momentum descent on the latents of a GAN, for realism and for the class together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.latent_descent import (
    Found,
    Hunt,
    LatentDescent,
    RowLoss,
    made,
    minimise,
    several_starts,
)
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, positive


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """Steps of the descent in a clamped latent space; see `GMI`."""

    steps: int
    learning_rate: float
    momentum: float
    clip: float


def gmi_loss(realism: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, weight: float) -> torch.Tensor:
    """-D(x) + weight * cross-entropy, float [b]. Zhang et al., CVPR 2020, stage 2; the published weight is 100.

    Args:
        realism: D(x), float [b], higher where x looks more like public records.
        logits: of the model, float [b, classes].
        labels: int64 [b].
        weight: of the class.
    """
    return -realism + weight * F.cross_entropy(logits, labels, reduction="none")


def recover_points(hunt: Hunt, loss: RowLoss, momentum: Momentum) -> Found:
    """Descend from the hunt's starts, all classes and restarts side by side; latents stay within +-clip.

    Args:
        hunt: generator, model, classes and starts [q, r, latent].
        loss: records [b, *shape] and classes [b] to float [b].
        momentum: how.
    """
    labels = hunt.rows
    z = hunt.starts.flatten(0, 1).clamp(-momentum.clip, momentum.clip).requires_grad_()
    optimizer = torch.optim.SGD([z], lr=momentum.learning_rate, momentum=momentum.momentum)
    minimise(
        [z],
        optimizer,
        lambda: loss(made(hunt.generator, z, labels), labels),
        momentum.steps,
        after=lambda: z.clamp_(-momentum.clip, momentum.clip),
    )
    return hunt.found(z.detach().unflatten(0, hunt.starts.shape[:2]))


@dataclass(frozen=True, kw_only=True)
class GMI(LatentDescent):
    """Stage 2 of the generative attack: minimise -D(G(z)) + weight * cross-entropy over z, from several starts.

    Published: 1500 steps, rate 0.02, momentum 0.9, latents clamped to +-1, five restarts of which the one with the best
    target score counts, for faces of 64 x 64 under a GAN of 280 epochs. The default has a fifth of the steps.

    Args:
        images: guesses for each class, the best of the restarts.
        steps: of the descent.
        learning_rate: of the descent; each guess has a loss of its own, which is not averaged over a batch.
        momentum: of the descent, in [0, 1).
        weight: of the class against realism.
        clip: largest absolute value of a latent.
        restarts: starts for each class; five for each guess that is kept, of which the surest ones are.
    """

    name: ClassVar[str] = "gmi"
    reference: ClassVar[str] = "zhang2020secret"
    bibtex: ClassVar[str] = """@inproceedings{zhang2020secret,
  title = {The Secret Revealer: Generative Model-Inversion Attacks Against Deep Neural Networks},
  author = {Zhang, Yuheng and Jia, Ruoxi and Pei, Hengzhi and Wang, Wenxiao and Li, Bo and Song, Dawn},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  note = {arXiv:1911.07135},
  year = {2020}
}"""
    summary: ClassVar[str] = "Descent on the latents of a GAN made from public records, for realism and the class."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="Public records of other classes, from which a GAN is made."
    )

    prior: str = "wgan-gp"
    steps: int = 300
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight: float = 100.0
    clip: float = 1.0
    restarts: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        at_least("restarts", self.restarts, self.images)
        in_range("momentum", self.momentum, 0.0, 0.999)
        at_least("weight", self.weight, 0.0)
        for name in ("learning_rate", "clip"):
            positive(name, getattr(self, name))

    @classmethod
    def example(cls) -> GMI:
        return cls(images=2, steps=30, restarts=3)

    def starts(self, generator: Generator, evidence: ClassEvidence) -> torch.Tensor:
        return several_starts(generator, evidence, self.restarts, self.method)

    def search(self, hunt: Hunt, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Found:
        def loss(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return gmi_loss(hunt.generator.realism(x), hunt.oracle.logits(x), labels, self.weight)

        momentum = Momentum(steps=self.steps, learning_rate=self.learning_rate, momentum=self.momentum, clip=self.clip)
        return recover_points(hunt, loss, momentum)
