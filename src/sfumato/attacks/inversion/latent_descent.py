"""What attacks share that descend in the latents of a generator with the model's weights: streams, losses, ranking."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.base import ClassInversion, Reconstructions
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator, GeneratorKind
from sfumato.attacks.inversion.generators.catalogue import prior_named, suitable
from sfumato.seeding import Name, torch_stream
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats, Ints

ROWS = 128  # guesses that are moved side by side; what comes out does not depend on it
BLOCK = 256  # records made at once where no gradient is needed

RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Records [b, *shape] and classes int64 [b] to float [b]."""


class Found(NamedTuple):
    """Guesses of some classes, in no order.

    Attributes:
        records: float [q, r, *shape].
        confidence: float64 [q, r].
    """

    records: torch.Tensor
    confidence: torch.Tensor


class ClassStreams:
    """One random stream for each class, so that a guess of a class does not depend on which others are asked about."""

    def __init__(self, seed: int, labels: torch.Tensor, *names: Name) -> None:
        self._generators = [torch_stream(seed, *names, "class", int(label)) for label in labels]

    def normal(self, *shape: int) -> torch.Tensor:
        """float32 [q, *shape], standard normal."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])

    def uniform(self, *shape: int) -> torch.Tensor:
        """float32 [q, *shape], in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=generator) for generator in self._generators])

    def latents(self, generator: Generator, count: int) -> torch.Tensor:
        """float32 [q, count, latent], drawn from the generator's prior."""
        return torch.stack([generator.sample(count, stream) for stream in self._generators])


@dataclass(frozen=True, eq=False)
class Hunt:
    """The search for a few classes.

    Args:
        generator: makes the guesses.
        oracle: the model.
        labels: int64 [q].
        starts: float [q, r, latent], where the search begins.
        seed: root of the streams.
    """

    generator: Generator
    oracle: Oracle
    labels: torch.Tensor
    starts: torch.Tensor
    seed: int

    @property
    def rows(self) -> torch.Tensor:
        """int64 [q * r]: the class of each start."""
        return self.labels.repeat_interleave(self.starts.shape[1])

    def streams(self, *names: Name) -> ClassStreams:
        """Streams of these classes for one purpose."""
        return ClassStreams(self.seed, self.labels, *names)

    def found(self, z: torch.Tensor) -> Found:
        """What latents [q, r, latent] make, and how sure the model is that each is of its class."""
        with torch.no_grad():
            records = made(self.generator, z.flatten(0, 1), self.labels.repeat_interleave(z.shape[1]))
        return judged(self.oracle, records.unflatten(0, z.shape[:2]), self.labels)


def made(generator: Generator, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Records [b, *shape] from latents [b, latent]; the classes int64 [b] count only where the generator takes them."""
    return generator(z, labels if generator.conditional else None)


def judged(oracle: Oracle, records: torch.Tensor, labels: torch.Tensor) -> Found:
    """Each guess [q, r, *shape], in the box, with the log of the model's confidence in its class, int64 [q]."""
    with torch.no_grad():
        flat = oracle.clamped(records.detach().flatten(0, 1))
        logits = torch.cat([oracle.logits(part) for part in flat.split(BLOCK)])
        confidence = log_confidence(logits, labels.repeat_interleave(records.shape[1]))
    return Found(flat.unflatten(0, records.shape[:2]), confidence.unflatten(0, records.shape[:2]))


def log_confidence(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """float64 [b]: log p_y for logits [b, classes] and classes int64 [b], each row at its own label.

    The published script of GMI reads row i at column i, which is right only where the labels happen to be 0, 1, 2, ...
    """
    return -F.cross_entropy(logits.double(), labels, reduction="none")


def minimise(
    parameters: Sequence[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], torch.Tensor],
    steps: int,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Move `parameters` in place. No gradient is left in a network.

    Args:
        parameters: leaves that need a gradient; the optimizer's. One that the loss does not touch stays.
        optimizer: of them.
        loss: to float [b], one loss for each row; rows do not touch one another, so their sum is minimised.
        steps: how many.
        after: called after each step, for a projection.
    """
    for _ in range(steps):
        gradients = torch.autograd.grad(loss().sum(), list(parameters), allow_unused=True, materialize_grads=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        with torch.no_grad():
            after()


def ranked(found: Found, images: int, queries: int) -> Reconstructions:
    """The `images` guesses of each class with the highest confidence, the best first."""
    confidence = found.confidence.detach().cpu().numpy().astype(np.float64)
    best = np.argsort(-confidence, axis=1, kind="stable")[:, :images]
    records = found.records.detach().cpu().numpy().astype(np.float32)
    rows = np.arange(len(best))[:, None]
    return Reconstructions(records[rows, best], confidence[rows, best], queries)


def groups(labels: Ints, rows: int) -> list[slice]:
    """Parts of the classes of which at most `ROWS` guesses are moved side by side, `rows` for each class."""
    size = max(1, ROWS // max(1, rows))
    return [slice(first, first + size) for first in range(0, len(labels), size)]


def several_starts(generator: Generator, evidence: ClassEvidence, count: int, name: str) -> torch.Tensor:
    """float [q, count, latent], drawn from the prior in a stream of each class that is called `name`."""
    labels = torch.from_numpy(np.asarray(evidence.labels, dtype=np.int64))
    return ClassStreams(evidence.seed, labels, name, "starts").latents(generator, count)


@dataclass(frozen=True, kw_only=True)
class LatentDescent(ClassInversion):
    """Base of attacks that descend in the latents of a generator with the model's weights.

    Args:
        prior: kind of the generator; "auto" for the one that suits the number and the shape of the public records.
    """

    needs_public: ClassVar[bool] = True
    images_only: ClassVar[bool] = True

    prior: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior != "auto":
            prior_named(self.prior)

    def kind(self, evidence: ClassEvidence) -> GeneratorKind:
        """How its generator is made."""
        return suitable(evidence).kind if self.prior == "auto" else prior_named(self.prior)

    def fits(self, evidence: ClassEvidence) -> tuple[Fit, ...]:
        fit = self.kind(evidence).fit(evidence)
        return () if fit is None else (fit,)

    def refuses(self, evidence: ClassEvidence) -> tuple[str, ...]:
        if evidence.public is not None and tuple(evidence.public.records.shape) != tuple(evidence.oracle.shape):
            shapes = f"{evidence.oracle.shape}, got {evidence.public.records.shape}"
            return (f"needs public records of the model's shape {shapes}",)
        return ()

    def reconstruct(self, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        before = evidence.oracle.queries
        generator = self.kind(evidence).load(fitted[0] if fitted else {}, evidence)
        starts = self.starts(generator, evidence)
        parts: list[Found] = []
        for part in groups(evidence.labels, starts.shape[1]):
            labels = torch.from_numpy(np.asarray(evidence.labels[part], dtype=np.int64))
            hunt = Hunt(generator, evidence.oracle, labels, starts[part], evidence.seed)
            parts.append(self.search(hunt, evidence, fitted))
            evidence.tell(f"{self.method}: {sum(len(one.records) for one in parts)} of {len(evidence.labels)} classes")
        found = Found(*(torch.cat(values) for values in zip(*parts, strict=True)))
        return ranked(found, self.images, evidence.oracle.queries - before)

    @abstractmethod
    def starts(self, generator: Generator, evidence: ClassEvidence) -> torch.Tensor:
        """float [q, r, latent]: latents at which the search for each class begins; r are moved at once."""

    @abstractmethod
    def search(self, hunt: Hunt, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Found:
        """At least `images` guesses of each class of the hunt."""
