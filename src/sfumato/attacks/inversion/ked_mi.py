"""KED-MI: a distribution of latents for each class, learned under a GAN that was made to fit the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.latent_descent import Found, Hunt, LatentDescent, RowLoss, made, minimise
from sfumato.types import Floats
from sfumato.validate import at_least, positive


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How the distribution of a class is learned; see `KEDMI`."""

    steps: int
    learning_rate: float
    draws: int
    images: int


def ked_loss(realness: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, weight: float) -> torch.Tensor:
    """-log D(x) + weight * cross-entropy, float [b]. Chen et al., ICCV 2021, distributional recovery.

    Args:
        realness: log D(x), float [b], with D = S / (1 + S) and S the sum of the exponentials of the discriminator's
            logits; so -log D = softplus(e) - e, where e is their log-sum-exp.
        logits: of the model, float [b, classes].
        labels: int64 [b].
        weight: of the class; 100 as published.
    """
    return -realness + weight * F.cross_entropy(logits, labels, reduction="none")


def drawn_latents(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """mean + exp(log_variance / 2) * noise, float [q, draws, latent].

    Args:
        mean: float [q, latent].
        log_variance: float [q, latent].
        noise: float [q, draws, latent], standard normal.
    """
    return mean[:, None] + (log_variance[:, None] / 2).exp() * noise


def recover_distributions(hunt: Hunt, loss: RowLoss, spread: Spread) -> Found:
    """Learn mean and log-variance of each class by Adam from 0 and 1, then draw guesses from them.

    The published loop clamps z, but only a copy that is printed: what is learned and drawn is not clamped, nor is it
    here.

    Args:
        hunt: generator, model and classes; where the hunt starts does not matter.
        loss: records [b, *shape] and classes [b] to float [b].
        spread: how.
    """
    q, latent = len(hunt.labels), hunt.generator.latent
    mean, log_variance = (torch.full((q, latent), value).requires_grad_() for value in (0.0, 1.0))
    noise, labels = hunt.streams("noise"), hunt.labels.repeat_interleave(spread.draws)

    def drawn() -> torch.Tensor:
        z = drawn_latents(mean, log_variance, noise.normal(spread.draws, latent)).flatten(0, 1)
        return loss(made(hunt.generator, z, labels), labels) / spread.draws

    optimizer = torch.optim.Adam([mean, log_variance], lr=spread.learning_rate)
    minimise([mean, log_variance], optimizer, drawn, spread.steps)
    guesses = hunt.streams("guesses").normal(spread.images, latent)
    return hunt.found(drawn_latents(mean.detach(), log_variance.detach(), guesses))


@dataclass(frozen=True, kw_only=True)
class KEDMI(LatentDescent):
    """Distributional recovery: learn a normal distribution of latents for each class, and draw guesses from it.

    Published: 2400 steps of Adam at rate 0.02, weight 100, five draws for each class, for faces of 64 x 64. The default
    has an eighth of the steps, each with several draws. The GAN of this attack (`ked-gan`) learns from the model's own
    answers on public records, so it is made anew for each model.

    Args:
        images: guesses drawn for each class.
        steps: of Adam.
        learning_rate: of Adam.
        weight: of the class against realism.
        draws: latents drawn for each class in a step.
    """

    name: ClassVar[str] = "ked-mi"
    reference: ClassVar[str] = "chen2021knowledge"
    bibtex: ClassVar[str] = """@inproceedings{chen2021knowledge,
  title = {Knowledge-Enriched Distributional Model Inversion Attacks},
  author = {Chen, Si and Kahla, Mostafa and Jia, Ruoxi and Qi, Guo-Jun},
  booktitle = {IEEE/CVF International Conference on Computer Vision},
  note = {arXiv:2010.04092},
  year = {2021}
}"""
    summary: ClassVar[str] = "A distribution of latents for each class, under a GAN made to fit the model."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="Public records of other classes, and what the model answers on them."
    )

    prior: str = "ked-gan"
    steps: int = 300
    learning_rate: float = 0.02
    weight: float = 100.0
    draws: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        at_least("draws", self.draws, 1)
        at_least("weight", self.weight, 0.0)
        positive("learning_rate", self.learning_rate)

    @classmethod
    def example(cls) -> KEDMI:
        return cls(images=2, steps=30, learning_rate=0.1, draws=2)

    def starts(self, generator: Generator, evidence: ClassEvidence) -> torch.Tensor:
        return torch.zeros(len(evidence.labels), self.draws, generator.latent)

    def search(self, hunt: Hunt, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Found:
        def loss(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return ked_loss(hunt.generator.realism(x), hunt.oracle.logits(x), labels, self.weight)

        spread = Spread(steps=self.steps, learning_rate=self.learning_rate, draws=self.draws, images=self.images)
        return recover_distributions(hunt, loss, spread)
