"""Attacks that see answers only, and look for latents of a generator of public records."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.base import ClassInversion, Reconstructions
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator, GeneratorKind
from sfumato.attacks.inversion.generators.catalogue import prior_named, suitable
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats

AT_ONCE = 2048  # records that are made at a time
FLOOR = -100.0  # of log-probabilities, so that a score of 0 (rounded, or hidden by a guard) is a number


class Search(NamedTuple):
    """A model as a function of latents: what the generator makes is put to it.

    Attributes:
        oracle: the model.
        generator: from latents to records.
    """

    oracle: Oracle
    generator: Generator

    def records(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float32 [b, *shape] inside the box for latents [b, latent] and classes int64 [b]."""
        with torch.no_grad():
            parts = zip(z.split(AT_ONCE), labels.split(AT_ONCE), strict=True)
            made = [self.generator(part, y if self.generator.conditional else None) for part, y in parts]
        return self.oracle.clamped(torch.cat(made).float())

    def table(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float32 [b, classes]: log-probabilities of all classes, at least `FLOOR`."""
        parts = zip(z.split(AT_ONCE), labels.split(AT_ONCE), strict=True)
        return torch.cat([self.oracle.scores(self.records(*part)) for part in parts]).clamp(min=FLOOR)

    def scores(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float32 [b]: log-probabilities of these classes."""
        return self.table(z, labels).gather(1, labels[:, None])[:, 0]

    def answers(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """int64 [b]: the labels that a user gets."""
        parts = zip(z.split(AT_ONCE), labels.split(AT_ONCE), strict=True)
        return torch.from_numpy(np.concatenate([self.oracle.labels(self.records(*part)) for part in parts]))


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found for q classes.

    Args:
        z: float32 [q, k, latent], the best first.
        confidence: float64 [q, k].
        facts: as for `Reconstructions`.
    """

    z: torch.Tensor
    confidence: Floats
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BlackBoxInversion(ClassInversion):
    """Base of attacks that search the latents of a generator and see answers only.

    Args:
        prior: kind of the generator; "auto" for the one that suits the number and the shape of the public records.
    """

    needs_public: ClassVar[bool] = True

    prior: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior != "auto":
            prior_named(self.prior)

    def kind(self, evidence: ClassEvidence) -> GeneratorKind:
        """How its generator is made."""
        return suitable(evidence).kind if self.prior == "auto" else prior_named(self.prior)

    def refuses(self, evidence: ClassEvidence) -> tuple[str, ...]:
        if evidence.public is None:
            return ()  # `why_not` says so
        if self.kind(evidence).images_only and len(evidence.oracle.shape) != 3:
            return (f"needs pictures for the prior {self.prior}, got records of shape {evidence.oracle.shape}",)
        return ()

    def fits(self, evidence: ClassEvidence) -> tuple[Fit, ...]:
        fit = self.kind(evidence).fit(evidence)
        return () if fit is None else (fit,)

    def generator(self, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Generator:
        """The generator, from what `fits` left."""
        return self.kind(evidence).load(fitted[0] if fitted else {}, evidence)

    def reconstruct(self, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        before = evidence.oracle.queries
        search = Search(evidence.oracle, self.generator(evidence, fitted))
        found = self.search(search, evidence)
        labels = torch.from_numpy(evidence.labels).repeat_interleave(self.images)
        records = search.records(found.z.flatten(0, 1), labels).numpy()
        shape = (len(evidence.labels), self.images, *evidence.oracle.shape)
        queries = evidence.oracle.queries - before
        return Reconstructions(records.reshape(shape), found.confidence, queries, facts=found.facts)

    @abstractmethod
    def search(self, search: Search, evidence: ClassEvidence) -> Found:
        """Latents for each class of the evidence."""
