"""MIRROR, without gradients: a genetic search in the latents of a generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.black_box import BlackBoxInversion, Found, Search
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.errors import UsageError
from sfumato.seeding import torch_stream
from sfumato.validate import at_least, in_range, positive


class Bounds(NamedTuple):
    """Where latents may lie, and how far they spread; float32 [latent] each."""

    low: torch.Tensor
    high: torch.Tensor
    spread: torch.Tensor


class Generation(NamedTuple):
    """Latents of q classes, the best first.

    Attributes:
        z: float32 [q, population, latent].
        fitness: float32 [q, population], log-probabilities of the class.
    """

    z: torch.Tensor
    fitness: torch.Tensor


def bounds_of(z: torch.Tensor, reach: float) -> Bounds:
    """Mean plus and minus `reach` standard deviations of latents [samples, latent]."""
    mean, spread = z.mean(dim=0), z.std(dim=0, unbiased=False)
    return Bounds(mean - reach * spread, mean + reach * spread, spread)


def crossed(
    first: torch.Tensor, second: torch.Tensor, fitness: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Children [b, latent]: each number is the first parent's with the softmax of the two fitnesses, else the second's.

    Args:
        first: float [b, latent].
        second: the same.
        fitness: float [b, 2], log-probabilities of both. Their plain shares would favour the worse parent.
    """
    share = fitness.softmax(dim=1)[:, :1]
    return torch.where(torch.rand(first.shape, generator=generator) < share, first, second)


def mutated(
    z: torch.Tensor, bounds: Bounds, chance: float, strength: float, generator: torch.Generator
) -> torch.Tensor:
    """Latents [b, latent]; each number moves with this chance by up to `strength` spreads, and stays in the bounds."""
    noise = strength * bounds.spread * (2 * torch.rand(z.shape, generator=generator) - 1)
    moved = z + noise * (torch.rand(z.shape, generator=generator) < chance)
    return moved.clamp(bounds.low, bounds.high)


@dataclass(frozen=True, kw_only=True)
class Mirror(BlackBoxInversion):
    """Breeds latents whose records the model takes for the class, from scores alone (An et al., 2022).

    The best of many draws are the first generation. Parents are drawn by the softmax of their fitness, the
    log-probability of the class; each number of a child comes from one of them, and mutates at times; the best one
    lives on. The search ends when the class is probable enough.

    The authors' code draws 100,000 samples, breeds 100 to 1,000 over 100 generations and searches a StyleGAN, whose
    latents it keeps within one standard deviation after undoing a leaky ReLU. Other generators have no such layer: here
    latents themselves stay within their mean plus and minus `reach` standard deviations. Their weight of the first
    parent is the share of negative numbers and so favours the worse one; here it is the softmax of the two.

    The guesses are the best of the last generation, so they are kin.

    Args:
        samples: draws for the first generation; all classes share them, unless the generator takes the class.
        population: latents in a generation.
        generations: most of them.
        reach: standard deviations that latents may be away from their mean.
        mutation: chance of each number to mutate.
        strength: of a mutation, in standard deviations.
        confidence: probability of the class that ends the search.
    """

    name: ClassVar[str] = "mirror"
    reference: ClassVar[str] = "an2022mirror"
    summary: ClassVar[str] = "Scores only: a genetic search in the latents of a generator."
    bibtex: ClassVar[str] = """@inproceedings{an2022mirror,
  author = {An, Shengwei and Tao, Guanhong and Xu, Qiuling and Liu, Yingqi and Shen, Guangyu and Yao, Yuan and
            Xu, Jingwei and Zhang, Xiangyu},
  title = {{MIRROR}: Model Inversion for Deep Learning Network with High Fidelity},
  booktitle = {Network and Distributed System Security Symposium},
  year = {2022}
}"""
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="Public records of other classes, from which a generator is made."
    )

    samples: int = 5_000
    population: int = 100
    generations: int = 100
    reach: float = 1.0
    mutation: float = 0.1
    strength: float = 0.1
    confidence: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("generations", self.generations, 0)
        at_least("population", self.population, 2)
        in_range("mutation", self.mutation, 0, 1)
        in_range("confidence", self.confidence, 0, 1)
        positive("reach", self.reach)
        positive("strength", self.strength)
        if not self.samples >= self.population >= self.images:
            raise UsageError(
                f"Expected at least as many samples as latents in a generation, and as many of those as guesses, got "
                f"{self.samples}, {self.population} and {self.images}.",
                remedy="Raise `samples` or `population`, or lower `images`.",
            )

    @classmethod
    def example(cls) -> Mirror:
        return cls(prior="pca", images=2, samples=200, population=20, generations=5)

    def search(self, search: Search, evidence: ClassEvidence) -> Found:
        stream = torch_stream(evidence.seed, self.name)
        labels = torch.from_numpy(evidence.labels)
        z = search.generator.sample(self.samples, stream)
        bounds = bounds_of(z, self.reach)
        now = self.first(search, z.clamp(bounds.low, bounds.high), labels)
        bred = 0
        while bred < self.generations and len(going := self.going(now)):
            if bred % 20 == 0:
                evidence.tell(f"mirror: generation {bred}, {len(going)} classes")
            then = self.bred(search, Generation(now.z[going], now.fitness[going]), labels[going], bounds, stream)
            now.z[going], now.fitness[going] = then
            bred += 1
        top = now.fitness[:, : self.images].double().exp().numpy()
        return Found(now.z[:, : self.images], top, {"generations": float(bred)})

    def going(self, now: Generation) -> torch.Tensor:
        """int64: classes that are not probable enough yet."""
        return (now.fitness[:, 0].exp() < self.confidence).nonzero()[:, 0]

    def first(self, search: Search, z: torch.Tensor, labels: torch.Tensor) -> Generation:
        """The best of the samples [samples, latent] for each class; asked once where a generator takes no class."""
        if search.generator.conditional:
            fitness = torch.stack([search.scores(z, y.expand(len(z))) for y in labels])
        else:
            fitness = search.table(z, torch.zeros(len(z), dtype=torch.int64)).T[labels]
        best = fitness.topk(self.population, dim=1)
        return Generation(z[best.indices], best.values)

    def bred(
        self, search: Search, now: Generation, labels: torch.Tensor, bounds: Bounds, stream: torch.Generator
    ) -> Generation:
        """The next generation of these classes: the best one, and children of all."""
        classes, size, latent = now.z.shape
        pairs = now.fitness.softmax(dim=1).multinomial(2 * (size - 1), replacement=True, generator=stream)
        parents = now.z.gather(1, pairs[..., None].expand(-1, -1, latent)).reshape(-1, 2, latent)
        worth = now.fitness.gather(1, pairs).reshape(-1, 2)
        children = crossed(parents[:, 0], parents[:, 1], worth, stream)
        children = mutated(children, bounds, self.mutation, self.strength, stream)
        scores = search.scores(children, labels.repeat_interleave(size - 1)).reshape(classes, -1)
        z = torch.cat([now.z[:, :1], children.reshape(classes, -1, latent)], dim=1)
        fitness = torch.cat([now.fitness[:, :1], scores], dim=1)
        order = fitness.argsort(dim=1, descending=True, stable=True)
        return Generation(z.gather(1, order[..., None].expand(-1, -1, latent)), fitness.gather(1, order))
