"""The conditional GAN of PLG-MI: public pictures stand for the private classes that the target takes them for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from sfumato.attacks.inversion.evidence import ClassEvidence, Tell
from sfumato.attacks.inversion.generators.fits import FromTarget
from sfumato.attacks.inversion.generators.sn_networks import ConditionalGenerator, ProjectionDiscriminator
from sfumato.attacks.inversion.generators.staged import StagedGenerator
from sfumato.attacks.inversion.generators.training import all_records, arrays_of, batches, descend, report, restored
from sfumato.attacks.inversion.soft_labels import soft_labels
from sfumato.attacks.inversion.views import DRAWS, Views
from sfumato.data.population import Population
from sfumato.models.build import drawn_from
from sfumato.seeding import torch_stream
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, positive

BETAS = (0.0, 0.9)


class Pair(NamedTuple):
    """Who makes pictures and who judges them."""

    generator: ConditionalGenerator
    discriminator: ProjectionDiscriminator


class PseudoLabels(NamedTuple):
    """Positions of public pictures, int64 [classes * top], and the class that each stands for, of the same length."""

    rows: torch.Tensor
    labels: torch.Tensor


class Game(NamedTuple):
    """What the training draws from: pictures [n, *shape], what they stand for, their order, the target, the draws."""

    pictures: torch.Tensor
    pseudo: PseudoLabels
    order: Iterator[torch.Tensor]
    oracle: Oracle
    draws: torch.Generator


def pseudo_labels(probabilities: torch.Tensor, top: int) -> PseudoLabels:
    """For each class the `top` pictures that the target gives it most; one picture may stand for several classes.

    Args:
        probabilities: of the target, [n, classes].
        top: at most n count.
    """
    top = min(top, len(probabilities))
    rows = probabilities.argsort(dim=0, descending=True, stable=True)[:top].T.flatten()
    return PseudoLabels(rows, torch.arange(probabilities.shape[1]).repeat_interleave(top))


def hinge_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """mean max(0, 1 - D(real)) + mean max(0, 1 + D(made)); [b] and [b] to a scalar."""
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def max_margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The largest logit of another class minus the logit of the class, float [b]. Yuan et al., AAAI 2023.

    It has no logarithm, so its gradient does not vanish where the model is sure.

    Args:
        logits: float [b, classes], two classes or more.
        labels: int64 [b].
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


@dataclass(frozen=True, kw_only=True)
class PlgGan(FromTarget):
    """A class-conditional GAN of public pictures that the target takes for its classes (Yuan et al., AAAI 2023).

    The loss of the discriminator is `hinge_loss`; that of the generator -mean D(G(z, y), y) + 0.2 mean `max_margin` by
    the target's logits on random views of what it made, as in the official code; there: the top 30 pictures a class,
    latents of length 128, Adam at 2e-4 with betas 0 and 0.9, five steps of the discriminator for each of 30,000 of the
    generator. The fields are quick numbers of ours, the networks are smaller ones of the same kind, see `sn_networks`,
    and the views are ours, see `Views`. There is no `realism`: the discriminator judges pictures of a class only.

    Args:
        top: public pictures that stand for a class.
        latent: length of a latent vector.
        width: channels of the finest feature map.
        steps: of the generator.
        critic_steps: of the discriminator, for each of those.
        batch: pictures a step.
        lr: learning rate of both.
        margin: weight of the target's word in the generator's loss.
        mirror: share of views that are mirrored; 0 for writing.
        seed: of weights, order, latents and views.
    """

    name: ClassVar[str] = "plg-gan"
    reference: ClassVar[str] = "yuan2023pseudo"
    bibtex: ClassVar[str] = """@inproceedings{yuan2023pseudo,
  title = {Pseudo Label-Guided Model Inversion Attack via Conditional Generative Adversarial Network},
  author = {Yuan, Xiaojian and Chen, Kejiang and Zhang, Jie and Zhang, Weiming and Yu, Nenghai and Zhang, Yang},
  booktitle = {AAAI Conference on Artificial Intelligence},
  note = {arXiv:2302.09814},
  year = {2023}
}"""
    summary: ClassVar[str] = "A conditional GAN of public pictures, labelled and guided by the target."

    top: int = 30
    latent: int = 128
    width: int = 16
    steps: int = 400
    critic_steps: int = 2
    batch: int = 64
    lr: float = 2e-3
    margin: float = 0.2
    mirror: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "latent", "width", "steps", "critic_steps"):
            at_least(name, getattr(self, name), 1)
        at_least("batch", self.batch, 2)
        positive("lr", self.lr)
        at_least("margin", self.margin, 0)
        in_range("mirror", self.mirror, 0, 1)

    @classmethod
    def example(cls) -> PlgGan:
        return cls(top=5, latent=8, width=4, steps=2, batch=16)

    def made(self, public: Population, oracle: Oracle, tell: Tell) -> dict[str, Floats]:
        pair, x = self._networks(tuple(oracle.shape), oracle.classes), all_records(public)
        pseudo = pseudo_labels(soft_labels(oracle, x), self.top)
        order = batches(len(pseudo.rows), self.batch, self.seed, self.name)
        self._train(pair, Game(x, pseudo, order, oracle, torch_stream(self.seed, self.name, "draws")), tell)
        return arrays_of({"generator": pair.generator}) | {"queries": np.array([oracle.queries], dtype=np.float32)}

    def load(self, arrays: Mapping[str, Floats], evidence: ClassEvidence) -> StagedGenerator:
        generator = self._networks(tuple(evidence.oracle.shape), evidence.oracle.classes).generator
        restored(generator, arrays, "generator")
        return StagedGenerator(blocks=tuple(generator.blocks), latent=self.latent, box=evidence.box, conditional=True)

    def _networks(self, shape: tuple[int, ...], classes: int) -> Pair:
        with drawn_from(self.seed, "generator", self.name):
            generator = ConditionalGenerator(shape, self.latent, self.width, classes)
            return Pair(generator, ProjectionDiscriminator(shape, self.width, classes))

    def _train(self, pair: Pair, game: Game, tell: Tell) -> None:
        made_by, judged_by = (torch.optim.Adam(network.parameters(), self.lr, BETAS) for network in pair)
        for step in range(self.steps):
            for _ in range(self.critic_steps):
                loss = self._discriminator_loss(pair, game)
                descend(judged_by, loss, f"the discriminator of `{self.name}`, step {step}")
            loss = self._generator_loss(pair, game)
            descend(made_by, loss, f"the generator of `{self.name}`, step {step}")
            report(tell, self.name, step, self.steps, loss)

    def _discriminator_loss(self, pair: Pair, game: Game) -> torch.Tensor:
        chosen = next(game.order)
        rows, labels = game.pseudo.rows[chosen], game.pseudo.labels[chosen]
        drawn = self._classes(game, len(rows))
        with torch.no_grad():
            fake = pair.generator(torch.randn(len(rows), self.latent, generator=game.draws), drawn)
        judged = pair.discriminator(torch.cat([game.pictures[rows], fake]), torch.cat([labels, drawn]))
        return hinge_loss(*judged.chunk(2))

    def _generator_loss(self, pair: Pair, game: Game) -> torch.Tensor:
        labels = self._classes(game, min(self.batch, len(game.pseudo.rows)))
        made = pair.generator(torch.randn(len(labels), self.latent, generator=game.draws), labels)
        views = Views(area=(0.8, 1.0), mirror=self.mirror, turn=5.0, jitter=0.2)
        logits = game.oracle.logits(views.of(made, torch.rand(len(made), DRAWS, generator=game.draws)))
        return self.margin * max_margin(logits, labels).mean() - pair.discriminator(made, labels).mean()

    def _classes(self, game: Game, count: int) -> torch.Tensor:
        return torch.randint(game.oracle.classes, (count,), generator=game.draws)
