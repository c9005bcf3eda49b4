"""The first stage of GMI: a Wasserstein GAN with gradient penalty on the public pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from sfumato.attacks.inversion.evidence import ClassEvidence, Tell
from sfumato.attacks.inversion.generators.dc_networks import ConvCritic, DCGenerator
from sfumato.attacks.inversion.generators.fits import FromPublic
from sfumato.attacks.inversion.generators.staged import StagedGenerator
from sfumato.attacks.inversion.generators.training import all_records, arrays_of, batches, descend, report, restored
from sfumato.data.population import Population
from sfumato.models.build import drawn_from
from sfumato.seeding import torch_stream
from sfumato.types import Floats
from sfumato.validate import at_least, positive

BETAS = (0.5, 0.999)


class Pair(NamedTuple):
    """Who makes pictures and who judges them."""

    generator: DCGenerator
    critic: ConvCritic


def gradient_penalty(
    critic: Callable[[torch.Tensor], torch.Tensor], real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor
) -> torch.Tensor:
    """Mean of (|gradient of the critic at x| - 1)^2 over points x between real and made records; scalar.

    Gulrajani et al. (2017), equation 3, without its weight.

    Args:
        critic: records [b, *shape] to [b, 1]; judges each apart.
        real: [b, *shape].
        fake: [b, *shape].
        mix: [b], share of `fake` in each point, in [0, 1].
    """
    share = mix.reshape(-1, *(1 for _ in real.shape[1:]))
    points = torch.lerp(real.detach(), fake.detach(), share).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def diversity(features: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """How far features lie apart for each unit that latents do: mean over pairs of a ratio of L1 distances; scalar.

    Args:
        features: of made records, [b, D]; the first half is paired with the second.
        z: their latents, [b, latent].
    """
    half = len(z) // 2
    apart = (features[:half] - features[half : 2 * half]).abs().mean(dim=1)
    return (apart / (z[:half] - z[half : 2 * half]).abs().mean(dim=1)).mean()


@dataclass(frozen=True, kw_only=True)
class WganGp(FromPublic):
    """A generator and a critic of public pictures, as stage 1 of GMI (Zhang et al., CVPR 2020).

    The critic's loss is mean D(fake) - mean D(real) + 10 * penalty, the generator's -mean D(fake), as in the official
    training code; there: latents of length 100, Adam at 2e-4 with betas 0.5 and 0.999, batches of 64, five steps of the
    critic for each of the generator, 280 passes over CelebA and 100 over MNIST. The fields are quick numbers of ours,
    and the networks are ours. `realism` is the critic.

    A term that rewards features far apart for latents far apart is said to belong to the method; the official code for
    faces has none, and the form of the paper is not known to us. `diversity` is a reconstruction of it, off by default:
    it uses features of the critic, where a target's would tie the generator to one target.

    Args:
        latent: length of a latent vector.
        width: channels of the finest feature map.
        steps: of the generator.
        critic_steps: for each of those.
        batch: pictures a step.
        lr: learning rate of both.
        penalty: weight of the gradient penalty.
        diversity: weight of the term above.
        seed: of weights, order and latents.
    """

    name: ClassVar[str] = "wgan-gp"
    reference: ClassVar[str] = "zhang2020secret"
    bibtex: ClassVar[str] = """@inproceedings{zhang2020secret,
  title = {The Secret Revealer: Generative Model-Inversion Attacks Against Deep Neural Networks},
  author = {Zhang, Yuheng and Jia, Ruoxi and Pei, Hengzhi and Wang, Wenxiao and Li, Bo and Song, Dawn},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  note = {arXiv:1911.07135},
  year = {2020}
}"""
    summary: ClassVar[str] = "A Wasserstein GAN of the public pictures; its critic judges how real a picture looks."

    latent: int = 100
    width: int = 32
    steps: int = 1000
    critic_steps: int = 2
    batch: int = 64
    lr: float = 1e-3
    penalty: float = 10.0
    diversity: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latent", "width", "steps", "critic_steps"):
            at_least(name, getattr(self, name), 1)
        at_least("batch", self.batch, 2)
        positive("lr", self.lr)
        at_least("penalty", self.penalty, 0)
        at_least("diversity", self.diversity, 0)

    @classmethod
    def example(cls) -> WganGp:
        return cls(latent=8, width=4, steps=2, batch=16)

    def made(self, public: Population, tell: Tell) -> dict[str, Floats]:
        pair = self._networks(public.records.shape)
        self._train(pair, all_records(public), tell)
        return arrays_of(pair._asdict())

    def load(self, arrays: Mapping[str, Floats], evidence: ClassEvidence) -> StagedGenerator:
        generator, critic = self._networks(tuple(evidence.oracle.shape))
        restored(generator, arrays, "generator")
        restored(critic, arrays, "critic")
        return StagedGenerator(
            blocks=tuple(generator.blocks),
            latent=self.latent,
            box=evidence.box,
            critic=lambda x: critic(x).squeeze(1),
        )

    def _networks(self, shape: tuple[int, ...]) -> Pair:
        with drawn_from(self.seed, "generator", self.name):
            return Pair(DCGenerator(shape, self.latent, self.width), ConvCritic(shape, 1, self.width))

    def _train(self, pair: Pair, x: torch.Tensor, tell: Tell) -> None:
        made_by, judged_by = (torch.optim.Adam(network.parameters(), self.lr, BETAS) for network in pair)
        draws, order = torch_stream(self.seed, self.name, "latents"), batches(len(x), self.batch, self.seed, self.name)
        for step in range(self.steps):
            for _ in range(self.critic_steps):
                descend(
                    judged_by, self._critic_loss(pair, x, order, draws), f"the critic of `{self.name}`, step {step}"
                )
            loss = self._generator_loss(pair, len(x), draws)
            descend(made_by, loss, f"the generator of `{self.name}`, step {step}")
            report(tell, self.name, step, self.steps, loss)

    def _critic_loss(
        self, pair: Pair, x: torch.Tensor, order: Iterator[torch.Tensor], draws: torch.Generator
    ) -> torch.Tensor:
        real = x[next(order)]
        with torch.no_grad():
            fake = pair.generator(torch.randn(len(real), self.latent, generator=draws))
        mix = torch.rand(len(real), generator=draws)
        gap = pair.critic(fake).mean() - pair.critic(real).mean()
        return gap + self.penalty * gradient_penalty(pair.critic, real, fake, mix)

    def _generator_loss(self, pair: Pair, records: int, draws: torch.Generator) -> torch.Tensor:
        z = torch.randn(min(self.batch, records), self.latent, generator=draws)
        features = pair.critic.features(pair.generator(z))
        loss = -pair.critic.head(features).mean()
        return loss - self.diversity * diversity(features, z) if self.diversity else loss
