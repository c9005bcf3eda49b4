"""The inversion-specific GAN of KED-MI: its discriminator learns what the target says of public pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch.nn.functional import softplus

from sfumato.attacks.inversion.evidence import ClassEvidence, Tell
from sfumato.attacks.inversion.generators.dc_networks import ConvCritic, DCGenerator
from sfumato.attacks.inversion.generators.fits import FromTarget
from sfumato.attacks.inversion.generators.staged import StagedGenerator
from sfumato.attacks.inversion.generators.training import all_records, arrays_of, batches, descend, report, restored
from sfumato.attacks.inversion.soft_labels import soft_labels
from sfumato.data.population import Population
from sfumato.models.build import drawn_from
from sfumato.seeding import torch_stream
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats
from sfumato.validate import at_least, positive

BETAS = (0.5, 0.999)


class Pair(NamedTuple):
    """Who makes pictures and who judges them."""

    generator: DCGenerator
    discriminator: ConvCritic


class Material(NamedTuple):
    """Public pictures [n, *shape], the target's probabilities for them [n, classes], and three orders to see them in.

    The discriminator sees one batch with probabilities and one without at each step, the generator a third.
    """

    pictures: torch.Tensor
    probabilities: torch.Tensor
    labelled: Iterator[torch.Tensor]
    unlabelled: Iterator[torch.Tensor]
    compared: Iterator[torch.Tensor]


def log_realness(logits: torch.Tensor) -> torch.Tensor:
    """log D(x) [b] for logits [b, classes], where D(x) = S / (1 + S) and S is the sum of their exponentials."""
    total = logits.logsumexp(dim=1)
    return total - softplus(total)


def discriminator_loss(
    labelled: torch.Tensor, probabilities: torch.Tensor, unlabelled: torch.Tensor, fake: torch.Tensor
) -> torch.Tensor:
    """Soft cross-entropy + (-mean log D(public) - mean log(1 - D(made))) / 2; scalar.

    Args:
        labelled: logits [b, classes] on public pictures.
        probabilities: the target's on the same, [b, classes].
        unlabelled: logits [b, classes] on other public pictures.
        fake: logits [b, classes] on made pictures.
    """
    soft = -(probabilities * labelled.log_softmax(dim=1)).sum(dim=1).mean()
    return soft + 0.5 * (-log_realness(unlabelled).mean() + softplus(fake.logsumexp(dim=1)).mean())


def generator_loss(
    features: torch.Tensor, real_features: torch.Tensor, logits: torch.Tensor, entropy: float
) -> torch.Tensor:
    """Mean L1 distance of the batches' mean features, plus the entropy of what is predicted for made ones; scalar.

    Args:
        features: of made pictures, [b, D].
        real_features: of public ones, [b, D].
        logits: on the made ones, [b, classes].
        entropy: weight of the entropy, which is summed over the batch, as in the official code.
    """
    distance = (features.mean(dim=0) - real_features.mean(dim=0)).abs().mean()
    log_probabilities = logits.log_softmax(dim=1)
    return distance - entropy * (log_probabilities.exp() * log_probabilities).sum()


@dataclass(frozen=True, kw_only=True)
class KedGan(FromTarget):
    """A GAN whose discriminator has one logit for each of the target's classes (Chen et al., ICCV 2021).

    The losses are those of the official code, see `discriminator_loss` and `generator_loss`; there: latents of length
    100, Adam at 2e-4 with betas 0.5 and 0.999, batches of 64, five steps of the discriminator for each of the
    generator, 120 passes. The fields are quick numbers of ours, and the networks are ours; the features that are
    compared are those before the last layer. `realism` is log D(x).

    Args:
        latent: length of a latent vector.
        width: channels of the finest feature map.
        steps: of the generator.
        critic_steps: of the discriminator, for each of those.
        batch: pictures a step.
        lr: learning rate of both.
        entropy: weight in the generator's loss.
        seed: of weights, order and latents.
    """

    name: ClassVar[str] = "ked-gan"
    reference: ClassVar[str] = "chen2021knowledge"
    bibtex: ClassVar[str] = """@inproceedings{chen2021knowledge,
  title = {Knowledge-Enriched Distributional Model Inversion Attacks},
  author = {Chen, Si and Kahla, Mostafa and Jia, Ruoxi and Qi, Guo-Jun},
  booktitle = {IEEE/CVF International Conference on Computer Vision},
  note = {arXiv:2010.04092},
  year = {2021}
}"""
    summary: ClassVar[str] = "A GAN of the public pictures that learns from the target's scores on them."

    latent: int = 100
    width: int = 32
    steps: int = 1000
    critic_steps: int = 2
    batch: int = 64
    lr: float = 1e-3
    entropy: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latent", "width", "steps", "critic_steps"):
            at_least(name, getattr(self, name), 1)
        at_least("batch", self.batch, 2)
        positive("lr", self.lr)
        at_least("entropy", self.entropy, 0)

    @classmethod
    def example(cls) -> KedGan:
        return cls(latent=8, width=4, steps=2, batch=16)

    def made(self, public: Population, oracle: Oracle, tell: Tell) -> dict[str, Floats]:
        pair, x = self._networks(tuple(oracle.shape), oracle.classes), all_records(public)
        orders = [batches(len(x), self.batch, self.seed, self.name, use) for use in ("labelled", "unlabelled", "made")]
        self._train(pair, Material(x, soft_labels(oracle, x), *orders), tell)
        return arrays_of(pair._asdict()) | {"queries": np.array([oracle.queries], dtype=np.float32)}

    def load(self, arrays: Mapping[str, Floats], evidence: ClassEvidence) -> StagedGenerator:
        generator, discriminator = self._networks(tuple(evidence.oracle.shape), evidence.oracle.classes)
        restored(generator, arrays, "generator")
        restored(discriminator, arrays, "discriminator")
        return StagedGenerator(
            blocks=tuple(generator.blocks),
            latent=self.latent,
            box=evidence.box,
            critic=lambda x: log_realness(discriminator(x)),
        )

    def _networks(self, shape: tuple[int, ...], classes: int) -> Pair:
        with drawn_from(self.seed, "generator", self.name):
            return Pair(DCGenerator(shape, self.latent, self.width), ConvCritic(shape, classes, self.width))

    def _train(self, pair: Pair, material: Material, tell: Tell) -> None:
        made_by, judged_by = (torch.optim.Adam(network.parameters(), self.lr, BETAS) for network in pair)
        draws = torch_stream(self.seed, self.name, "latents")
        for step in range(self.steps):
            for _ in range(self.critic_steps):
                loss = self._discriminator_loss(pair, material, draws)
                descend(judged_by, loss, f"the discriminator of `{self.name}`, step {step}")
            loss = self._generator_loss(pair, material, draws)
            descend(made_by, loss, f"the generator of `{self.name}`, step {step}")
            report(tell, self.name, step, self.steps, loss)

    def _discriminator_loss(self, pair: Pair, material: Material, draws: torch.Generator) -> torch.Tensor:
        rows, others = next(material.labelled), next(material.unlabelled)
        with torch.no_grad():
            fake = pair.generator(torch.randn(len(rows), self.latent, generator=draws))
        together = torch.cat([material.pictures[rows], material.pictures[others], fake])
        labelled, unlabelled, made = pair.discriminator(together).chunk(3)
        return discriminator_loss(labelled, material.probabilities[rows], unlabelled, made)

    def _generator_loss(self, pair: Pair, material: Material, draws: torch.Generator) -> torch.Tensor:
        rows = next(material.compared)
        features = pair.discriminator.features(pair.generator(torch.randn(len(rows), self.latent, generator=draws)))
        with torch.no_grad():
            real = pair.discriminator.features(material.pictures[rows])
        return generator_loss(features, real, pair.discriminator.head(features), self.entropy)
