"""BREP-MI: away from the boundary, with labels only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.black_box import BlackBoxInversion, Found, Search
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.seeding import torch_stream
from sfumato.types import Ints
from sfumato.validate import at_least, positive

Inside = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # latents [b, latent], their walks [b] to bool [b]

DRAWN = 512  # latents drawn at a time in search of starts
LONGEST_STEP = 3.0
LARGEST = 1e3  # radius beyond which a sphere grows no more, for a model that gives one answer everywhere
GROWTH = 1.3
ENOUGH = 0.75  # of the sum of votes (+1 inside, -1 outside) for the sphere to grow


class Starts(NamedTuple):
    """Where the walks of each class begin.

    Attributes:
        z: float32 [q, k, latent].
        found: bool [q, k]: whether the label there is the class; the others are draws from the prior.
        drawn: latents drawn.
    """

    z: torch.Tensor
    found: torch.Tensor
    drawn: int


class Repelled(NamedTuple):
    """Where the walks ended.

    Attributes:
        z: float32 [p, latent], at the last growth of the sphere, or the last point of a walk whose sphere never grew.
        radius: float32 [p], of the sphere at the end.
        grew: bool [p], whether it ever did.
        iterations: int64 [p], until the walk stopped.
    """

    z: torch.Tensor
    radius: torch.Tensor
    grew: torch.Tensor
    iterations: torch.Tensor


def repulsion(inside: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """float [p, latent]: minus the mean over all points of a sphere of the directions of those outside of the class.

    Args:
        inside: bool [p, points].
        units: float [p, points, latent], unit directions of the points.
    """
    return -(units * (~inside)[..., None]).mean(dim=1)


def grows(inside: torch.Tensor) -> torch.Tensor:
    """bool [p]: whether the votes [p, points] of a sphere, +1 inside and -1 outside, sum to more than enough."""
    votes = 2 * inside.sum(dim=1) - inside.shape[1]
    return votes > ENOUGH * inside.shape[1]


@dataclass(frozen=True, kw_only=True)
class BREPMI(BlackBoxInversion):
    """Walks from a point of the class away from its boundary, with labels only (Kahla et al., 2022).

    Around the current latents, points on a sphere are labelled; the walk goes away from those outside of the class, and
    where nearly all are inside, the sphere grows. Constants and order are those of the authors' code: latents clamped,
    32 points, a first radius of 2, growth by 1.3, steps of a third of the radius and at most 3, moves out of the class
    taken back. There a walk ends after 1,000 moves without growth; here moves that are taken back count, too, so that
    every walk ends, and the default is 100. All classes walk side by side.

    Where no latents of a class are found among `draws`, its guesses are draws from the prior with a confidence of 0,
    and the facts say so (`classes_without_start`). Where some are, but fewer than `images`, they are walked from again.

    Args:
        draws: latents drawn in search of starts; all classes share them, unless the generator takes the class.
        points: labels asked for a step.
        radius: of the first sphere.
        reach: largest absolute value of a latent number.
        patience: iterations without growth after which a walk stops.
        most: iterations after which it stops in any case.
    """

    name: ClassVar[str] = "brep-mi"
    reference: ClassVar[str] = "kahla2022label"
    summary: ClassVar[str] = "Labels only: latents of a generator walk away from the boundary of the class."
    bibtex: ClassVar[str] = """@inproceedings{kahla2022label,
  author = {Kahla, Mostafa and Chen, Si and Just, Hoang Anh and Jia, Ruoxi},
  title = {Label-Only Model Inversion Attacks via Boundary Repulsion},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022}
}"""
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="labels", knowledge="Public records of other classes, from which a generator is made."
    )

    draws: int = 20_000
    points: int = 32
    radius: float = 2.0
    reach: float = 1.5
    patience: int = 100
    most: int = 2_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("draws", "points", "patience", "most"):
            at_least(name, getattr(self, name), 1)
        positive("radius", self.radius)
        positive("reach", self.reach)

    @classmethod
    def example(cls) -> BREPMI:
        return cls(prior="pca", images=2, draws=1_024, patience=5, most=40)

    def search(self, search: Search, evidence: ClassEvidence) -> Found:
        starts = self.starts(search, evidence)
        owners = torch.from_numpy(evidence.labels)[:, None].expand(starts.found.shape)
        walking, y = starts.found.flatten(), owners.flatten()

        def inside(z: torch.Tensor, walks: torch.Tensor) -> torch.Tensor:
            labels = y[walking][walks]
            return search.answers(z, labels) == labels

        drawn = torch_stream(evidence.seed, self.name, "directions")
        ended = repelled(inside, starts.z.flatten(0, 1)[walking], self, drawn, evidence.tell)
        z, sureness = starts.z.flatten(0, 1).clone(), torch.zeros(len(y), dtype=torch.float64)
        z[walking], sureness[walking] = ended.z, ended.radius.double()
        order = sureness.reshape(owners.shape).argsort(dim=1, descending=True, stable=True)
        found = z.reshape(*owners.shape, -1).gather(1, order[..., None].expand(-1, -1, z.shape[1]))
        facts = {
            "classes_without_start": float((~starts.found.any(dim=1)).sum()),
            "latents_drawn": float(starts.drawn),
            "walks_that_grew": float(ended.grew.sum()),
            "iterations": float(ended.iterations.sum()),
        }
        return Found(found, sureness.reshape(owners.shape).gather(1, order).numpy(), facts)

    def starts(self, search: Search, evidence: ClassEvidence) -> Starts:
        """Latents whose label is the class, for each class and guess."""
        generator, stream = search.generator, torch_stream(evidence.seed, self.name, "starts")
        found: list[list[torch.Tensor]] = [[] for _ in evidence.labels]
        drawn, spare = 0, torch.empty(0, generator.latent)
        while drawn < self.draws and (missing := [i for i, z in enumerate(found) if len(z) < self.images]):
            z = generator.sample(min(DRAWN, self.draws - drawn), stream).clamp(-self.reach, self.reach)
            drawn, spare = drawn + len(z), torch.cat([spare, z])[: max(self.images, 1)]
            for i, hits in _hits(search, z, evidence.labels, missing).items():
                found[i] += list(hits[: self.images - len(found[i])])
        return _filled(found, spare, self.images, drawn)


def _hits(search: Search, z: torch.Tensor, labels: Ints, missing: list[int]) -> dict[int, torch.Tensor]:
    """Those of the latents that have the label of each missing class; asked once where the class changes nothing."""
    if search.generator.conditional:
        classes = {i: torch.full((len(z),), int(labels[i])) for i in missing}
        return {i: z[search.answers(z, y) == y] for i, y in classes.items()}
    answers = search.answers(z, torch.zeros(len(z), dtype=torch.int64))
    return {i: z[answers == int(labels[i])] for i in missing}


def _filled(found: list[list[torch.Tensor]], spare: torch.Tensor, images: int, drawn: int) -> Starts:
    """k starts for each class: its own, over again where they are few; draws from the prior where there is none."""
    padding = [spare[i % len(spare)] for i in range(images)]
    z = [torch.stack([own[i % len(own)] for i in range(images)] if own else padding) for own in found]
    has = torch.tensor([bool(own) for own in found])
    return Starts(torch.stack(z), has[:, None].expand(-1, images), drawn)


def repelled(
    inside: Inside, z: torch.Tensor, settings: BREPMI, generator: torch.Generator, tell: Callable[[str], None]
) -> Repelled:
    """Walk from each of p points, side by side, until its sphere has not grown for long enough.

    Args:
        inside: latents and the walk that each belongs to, to whether its label is the walk's class.
        z: float32 [p, latent], inside.
        settings: points, radius, reach, patience and the most iterations.
        generator: of the directions.
        tell: is told how many walks go on.
    """
    z, kept, radius = z.clone(), z.clone(), torch.full((len(z),), settings.radius)
    grew, quiet = torch.zeros(len(z), dtype=torch.bool), torch.zeros(len(z), dtype=torch.int64)
    iterations = torch.zeros(len(z), dtype=torch.int64)
    for iteration in range(settings.most):
        going = (quiet < settings.patience).nonzero()[:, 0]
        if not len(going):
            break
        if iteration % 100 == 0:
            tell(f"brep-mi: iteration {iteration}, {len(going)} walks")
        units = torch.randn(len(going), settings.points, z.shape[1], generator=generator)
        units = units / units.norm(dim=2, keepdim=True)
        sphere = z[going, None] + radius[going, None, None] * units
        votes = inside(sphere.flatten(0, 1), going.repeat_interleave(settings.points)).reshape(len(going), -1)
        step = (radius[going] / 3).clamp(max=LONGEST_STEP)
        moved = (z[going] + step[:, None] * repulsion(votes, units)).clamp(-settings.reach, settings.reach)
        stays = inside(moved, going)
        z[going[stays]] = moved[stays]
        wider = going[grows(votes) & (radius[going] < LARGEST)]
        radius[wider] *= GROWTH
        kept[wider], grew[wider] = z[wider], True
        iterations[going] += 1
        quiet[going] += 1
        quiet[wider] = 0
    return Repelled(torch.where(grew[:, None], kept, z), radius, grew, iterations)
