"""MIFace without gradients: they are estimated from scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.black_box import AT_ONCE, BlackBoxInversion, Found, Search
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator, GeneratorKind
from sfumato.attacks.inversion.generators.catalogue import prior_named
from sfumato.errors import UsageError
from sfumato.seeding import torch_stream
from sfumato.targets.boundary import Box
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, positive

Value = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # points [b, d], the climb of each [b] to [b]

TINY = 1e-30  # below any slope; where scores do not change at all, no step is taken
ROOT_3 = math.sqrt(3.0)  # a uniform law of mean 0 and standard deviation 1 ends here
REACH = 3.0  # standard deviations that latents of a generator may be away from 0


class BoxGenerator(Generator):
    """The records themselves as latents, scaled so that the uniform law over the box has mean 0 and deviation 1."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.latent = box.low.numel()

    def __call__(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        share = (z.reshape(-1, *self.box.low.shape) / ROOT_3).clamp(-1, 1) / 2 + 0.5
        return self.box.low + share * (self.box.high - self.box.low)

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return ROOT_3 * (2 * torch.rand(count, self.latent, generator=generator) - 1)

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Latents [b, latent] of records [b, *shape] in the box; a number that cannot vary has latent 0."""
        width = self.box.high - self.box.low
        share = torch.where(width > 0, (x - self.box.low) / width.clamp(min=torch.finfo(width.dtype).tiny), 0.5)
        return ROOT_3 * (2 * share - 1).flatten(1)


def directions_in(numbers: int, most: int, points: int, generator: torch.Generator) -> torch.Tensor:
    """Directions to look along from each point, [points, m, numbers].

    The axes where there are at most `most` of them, so that slopes are finite differences; else `most` standard normal
    ones (NES).
    """
    if numbers <= most:
        return torch.eye(numbers).expand(points, -1, -1)
    return torch.randn(points, most, numbers, generator=generator)


def slopes(value: Value, z: torch.Tensor, owners: torch.Tensor, ways: torch.Tensor, radius: float) -> torch.Tensor:
    """Estimated gradients [p, d] of a value at points: antithetic differences along directions, 2 m values a point.

    Exact for a linear value along the axes, and unbiased for it along normal directions.

    Args:
        value: of points and their owners.
        z: float [p, d].
        owners: int64 [p].
        ways: float [p, m, d].
        radius: how far to look, in lengths of the directions.
    """
    points, often = len(z), ways.shape[1]
    both = torch.cat([z[:, None] + radius * ways, z[:, None] - radius * ways], dim=1)
    values = value(both.flatten(0, 1), owners.repeat_interleave(2 * often)).reshape(points, 2, often)
    rise = (values[:, 0] - values[:, 1]) / (2 * radius)
    weight = z.shape[1] / ways.square().sum(dim=(1, 2))
    return weight[:, None] * torch.einsum("pm,pmd->pd", rise, ways)


class Climbed(NamedTuple):
    """Where p climbs got to.

    Attributes:
        z: float32 [p, d], the best points.
        value: float32 [p], there.
        steps: int64 [p], taken.
    """

    z: torch.Tensor
    value: torch.Tensor
    steps: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class MIFaceScores(BlackBoxInversion):
    """Raises the probability of a class by gradients that are estimated from scores (after Fredrikson et al., 2015).

    Steps have one length and go along the estimated gradient of the class's log-probability, which points where that of
    the published cost (1 minus the probability) points. A climb ends at the confidence, where the cost is not below the
    worst of the last `window` costs, or with the budget; its best point is the guess. The first guess starts at 0 of
    the coordinates' law (in the records' own coordinates at the record 0, moved into the box), others at draws from it.

    With public records the coordinates are latents of a generator made from them, by default their principal
    components; without, they are the numbers of the record, which takes far more queries.

    Args:
        prior: kind of the generator; "auto" for "pca" where there are public records, else "none": the records' own
            coordinates.
        budget: most queries for a guess.
        directions: looked along for a gradient, both ways; the axes where they are no more.
        radius: how far to look, in standard deviations of the coordinates.
        lr: length of a step for each coordinate (root mean square), in the same unit.
        confidence: probability at which a climb ends.
        window: of the stopping rule, in steps (beta).
    """

    name: ClassVar[str] = "miface-scores"
    reference: ClassVar[str] = "fredrikson2015model"
    summary: ClassVar[str] = "Scores only: raises the probability of a class by estimated gradients."
    bibtex: ClassVar[str] = """@inproceedings{fredrikson2015model,
  author = {Fredrikson, Matt and Jha, Somesh and Ristenpart, Thomas},
  title = {Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  pages = {1322--1333},
  year = {2015}
}"""
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The range of the values, and public records of other classes where there are any."
    )
    needs_public: ClassVar[bool] = False
    uses_public: ClassVar[bool] = True
    reconstruction: ClassVar[str] = (
        "How the paper estimates gradients from scores is not known to us: directions, steps, coordinates and the "
        "budget are our choices."
    )

    budget: int = 10_000
    directions: int = 32
    radius: float = 0.1
    lr: float = 0.1
    confidence: float = 0.99
    window: int = 50

    def __post_init__(self) -> None:
        if self.prior != "none":
            super().__post_init__()
        for name in ("images", "directions", "window"):
            at_least(name, getattr(self, name), 1)
        for name in ("radius", "lr"):
            positive(name, getattr(self, name))
        in_range("confidence", self.confidence, 0, 1)
        if self.budget <= 2 * self.directions + 1:
            raise UsageError(
                f"Expected a budget for one step at least ({2 * self.directions + 2} queries), got {self.budget}.",
                remedy="Raise `budget`, or lower `directions`.",
            )

    @classmethod
    def example(cls) -> MIFaceScores:
        return cls(images=2, budget=200, directions=16)

    def named(self, evidence: ClassEvidence) -> str:
        """The prior that is meant."""
        if self.prior != "auto":
            return self.prior
        return "none" if evidence.public is None else "pca"

    def kind(self, evidence: ClassEvidence) -> GeneratorKind:
        return prior_named(self.named(evidence))

    def fits(self, evidence: ClassEvidence) -> tuple[Fit, ...]:
        return () if self.named(evidence) == "none" else super().fits(evidence)

    def generator(self, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Generator:
        if self.named(evidence) == "none":
            return BoxGenerator(evidence.box)
        return super().generator(evidence, fitted)

    def refuses(self, evidence: ClassEvidence) -> tuple[str, ...]:
        if self.prior not in ("auto", "none") and evidence.public is None:
            return (f"needs public records for the prior {self.prior}, got none",)
        return () if self.named(evidence) == "none" else super().refuses(evidence)

    def search(self, search: Search, evidence: ClassEvidence) -> Found:
        own = isinstance(search.generator, BoxGenerator)
        starts = self.starts(search.generator, len(evidence.labels), evidence)
        labels = torch.from_numpy(evidence.labels).repeat_interleave(self.images)
        climbed = climb(
            lambda z, owners: search.scores(z, labels[owners]),
            starts,
            self,
            reach=ROOT_3 if own else REACH,
            generator=torch_stream(evidence.seed, self.name, "directions"),
        )
        shape = (len(evidence.labels), self.images)
        value = climbed.value.reshape(shape)
        order = value.argsort(dim=1, descending=True, stable=True)
        z = climbed.z.reshape(*shape, -1).gather(1, order[..., None].expand(-1, -1, climbed.z.shape[1]))
        confidence = value.gather(1, order).double().exp().numpy()
        return Found(z, confidence, {"steps": float(climbed.steps.sum()), "coordinates": float(z.shape[2])})

    def starts(self, generator: Generator, classes: int, evidence: ClassEvidence) -> torch.Tensor:
        """float32 [q * k, latent]: the first of each class at 0, the others drawn from the prior."""
        drawn = generator.sample(classes * self.images, torch_stream(evidence.seed, self.name, "starts"))
        drawn = drawn.clamp(-REACH, REACH).reshape(classes, self.images, -1)
        if isinstance(generator, BoxGenerator):
            drawn[:, 0] = generator.of(evidence.oracle.clamped(torch.zeros(1, *evidence.oracle.shape)))
        else:
            drawn[:, 0] = 0.0
        return drawn.flatten(0, 1)


def climb(
    value: Value, starts: torch.Tensor, settings: MIFaceScores, *, reach: float, generator: torch.Generator
) -> Climbed:
    """Raise a log-probability from each of p points, side by side, with its values alone.

    Args:
        value: of points and the climb that each belongs to.
        starts: float32 [p, d].
        settings: budget, directions, radius, lr, confidence and window.
        reach: largest absolute value of a coordinate.
        generator: of the directions.
    """
    everyone, numbers = torch.arange(len(starts)), starts.shape[1]
    often = min(numbers, settings.directions)
    z, best, now = starts.clone(), starts.clone(), value(starts, everyone)
    highest, last = now.clone(), now.repeat(settings.window, 1)
    last[1:] = -torch.inf
    taken, going = torch.zeros(len(z), dtype=torch.int64), everyone[now.exp() < settings.confidence]
    for step in range(1, 1 + (settings.budget - 1) // (2 * often + 1)):
        if not len(going):
            break
        for part in going.split(max(1, AT_ONCE // (2 * often))):
            ways = directions_in(numbers, settings.directions, len(part), generator)
            slope = slopes(value, z[part], part, ways, settings.radius)
            length = settings.lr * numbers**0.5 / slope.norm(dim=1, keepdim=True).clamp(min=TINY)
            z[part] = (z[part] + length * slope).clamp(-reach, reach)
        now = value(z[going], going)
        better = now > highest[going]
        best[going[better]], highest[going[better]] = z[going[better]], now[better]
        taken[going] += 1
        stuck = now <= last[:, going].amin(dim=0)
        last[step % settings.window, going] = now
        going = going[~stuck & (now.exp() < settings.confidence)]
    return Climbed(best, highest, taken)
