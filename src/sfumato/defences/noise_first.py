"""Noise first: each record is released once with Gaussian noise, and the network is trained on what was released."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import torch
from torch import nn

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.calibrate import NOISES, Target, calibrated
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.randomised_response import RandomisedResponse
from sfumato.data.population import Population
from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.noise.choice import noise_named
from sfumato.private.noise.source import NoiseSource
from sfumato.private.radius import WithinRadius
from sfumato.private.release import Release
from sfumato.training.defence import Batch, Defence
from sfumato.training.scaling import public_scaling
from sfumato.training.task import PublicScaling
from sfumato.validate import at_least, one_of, positive

ADJACENCIES = (Adjacency.REPLACE_ONE, Adjacency.REPLACE_SPECIAL)
LABELS = ("public", "randomised")
LEVELS = ("unit", "example")
INPUTS = ("constants", "log")
INSIDE = 1 - 1e-9  # of the probability to answer with the label itself: rounding must not lift it above its bound


@dataclass(frozen=True, kw_only=True)
class NoiseFirst(Defence):
    """Clips each training record to a radius, releases it with noise, and forgets the record.

    The noise of a neural SDE that starts before the first evaluation of the drift, drawn once for each record and kept.
    Whatever is computed from the copies is post-processing: any optimiser, any number of epochs, validation scores
    and early stopping on copies, fitted scaling, mixing. Noise that starts behind the first layer is no such release,
    because that layer saw the record. When the model is asked, the input is clipped the same way and gets no noise.

    The noise is on every value of a record, so this is for short records: behind fixed features of few dimensions.

    Sensitivity. Records lie within `radius`, so replacing one by another moves a copy by at most twice that, and
    replacing it by zeros by at most once. How many copies there are is seen by everybody, so a relation that keeps
    the number of records secret (ADD_OR_REMOVE_ONE) is refused.

    Args:
        radius: L2 norm that no record exceeds after scaling, above 0; a public number.
        delta: at which epsilon is stated; well below 1 / (number of units).
        adjacency: "REPLACE_ONE" or "REPLACE_SPECIAL".
        labels: "public": labels are known to everybody, which is your declaration and stands in the record; only the
            inputs are protected then. "randomised": each label goes through randomised response.
        label_epsilon: of that response, above 0; part of the total.
        target_epsilon: solves for the noise on the inputs, everything together; or give `noise_multiplier`.
        noise_multiplier: standard deviation of the noise over the radius, above 0.
        copies: independent copies of each input; more of them cost as much as one copy with less noise. The label is
            answered once for all of them.
        level: "unit" protects the population's unit of privacy, which must have one record; "example" one record.
        noise: name of a kind of noise.
        inputs: how inputs are scaled without reading them, before they are clipped: "constants" ((x - input_mean) /
            input_std) or "log" (signed logarithm first, for columns of unknown scale).
        input_mean: public, one number or one per feature or channel; the default suits pictures in [0, 1], and 0 suits
            fixed features.
        input_std: the same; 1 suits fixed features.
    """

    name: ClassVar[str] = "noise-first"
    family: ClassVar[str] = "formal"
    reference: ClassVar[str] = "dwork2014algorithmic"
    summary: ClassVar[str] = "Trains on copies of the records that were released once with noise; comes with a proof."
    bibtex: ClassVar[str] = """@article{dwork2014algorithmic,
  author = {Dwork, Cynthia and Roth, Aaron},
  title = {The Algorithmic Foundations of Differential Privacy},
  journal = {Foundations and Trends in Theoretical Computer Science},
  volume = {9},
  number = {3--4},
  year = {2014}
}"""

    radius: float
    delta: float
    adjacency: str
    labels: Literal["public", "randomised"]
    label_epsilon: float | None = None
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    copies: int = 1
    level: str = "unit"
    noise: str = "continuous-gaussian"
    inputs: str = "constants"
    input_mean: float | tuple[float, ...] = 0.5
    input_std: float | tuple[float, ...] = 0.5

    def __post_init__(self) -> None:
        positive("radius", self.radius)
        one_of("labels", self.labels, LABELS)
        one_of("level", self.level, LEVELS)
        one_of("inputs", self.inputs, INPUTS)
        at_least("copies", self.copies, 1)
        noise_named(self.noise)
        object.__setattr__(self, "adjacency", Adjacency.named(self.adjacency).value)
        for name in ("input_mean", "input_std"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (tuple, list)) else value)
        self._refuse_what_cannot_be()

    def _refuse_what_cannot_be(self) -> None:
        if Adjacency(self.adjacency) not in ADJACENCIES:
            raise NotPrivateError(
                f"Expected {' or '.join(ADJACENCIES)} for {self.name}, got {self.adjacency}: whoever sees the copies "
                "can count them, so the number of records is no secret.",
                remedy='Use adjacency="REPLACE_ONE".',
            )
        if (self.labels == "randomised") != (self.label_epsilon is not None):
            raise UsageError(
                f'Expected `label_epsilon` for labels="randomised" and none for "public", got labels={self.labels!r} '
                f"with {self.label_epsilon}.",
                remedy="Labels go through a mechanism of their own, or you declare them public.",
            )
        if (self.target_epsilon is None) == (self.noise_multiplier is None):
            raise UsageError(
                f"Expected `target_epsilon` or `noise_multiplier`, got {self.target_epsilon} and "
                f"{self.noise_multiplier}.",
                remedy="Give one of them; the other follows.",
            )
        if self.noise_multiplier is not None:
            positive("noise_multiplier", self.noise_multiplier)
        self._release("example", 2)

    @classmethod
    def example(cls) -> NoiseFirst:
        return cls(radius=1.0, delta=1e-5, adjacency="REPLACE_ONE", labels="public", noise_multiplier=1.0)

    def release(self, population: Population) -> Release:
        several = len(population) > population.units
        if self.level == "unit" and several:
            raise NotPrivateError(
                f"Expected units of one record for {self.name}, got several records of one {population.unit.name}.",
                remedy='Protect single records with `level="example"`, or use dpsgd with `max_records_per_unit`.',
            )
        return self._release("example" if self.level == "example" else population.unit.name, population.classes)

    def _release(self, unit: str, classes: int) -> Release:
        declared = ", its label public as declared" if self.labels == "public" else ""
        facts = {"noise": self.noise, "radius": self.radius, "labels": self.labels}
        return Release(self._mechanisms(classes), self.delta, unit + declared, self.copies, tuple(facts.items()))

    def _mechanisms(self, classes: int) -> tuple[Mechanism, ...]:
        relation = Adjacency(self.adjacency)
        answers: tuple[Mechanism, ...] = ()
        if self.label_epsilon is not None:
            epsilon = self.label_epsilon
            answers = (RandomisedResponse(label_epsilon=epsilon, classes=classes, steps=1, adjacency=relation),)
        noise = self.noise_multiplier
        if noise is None:
            noise = _solved(self.target_epsilon or 0.0, self.delta, self.copies, relation, answers)
        return (Gaussian(noise_multiplier=noise, steps=self.copies, adjacency=relation), *answers)

    def front(self, shape: tuple[int, ...]) -> nn.Module:
        """Scaling by public constants, and the clip: before the noise, and before every query."""
        scaling = PublicScaling(mean=self.input_mean, std=self.input_std, log=self.inputs == "log")
        return nn.Sequential(*public_scaling(scaling, shape[0]), WithinRadius(self.radius))

    def released(self, records: Batch, population: Population, source: NoiseSource) -> Batch:
        inputs, *answers = self._mechanisms(records.targets.shape[1])
        assert isinstance(inputs, Gaussian)  # as `_mechanisms` made it
        std = inputs.noise_multiplier * self.radius
        shrunk = records.x.float() * (1 - self._rounding(math.prod(records.x.shape[1:]), std))
        copies = shrunk.repeat(self.copies, *(1 for _ in records.x.shape[1:])).contiguous()
        noisy = noise_named(self.noise).add(copies, std, source)
        targets = records.targets
        for answer in answers:
            assert isinstance(answer, RandomisedResponse)  # as `_mechanisms` made it
            targets = answered(targets, answer.truth, source)
        return Batch(noisy.to(records.x.dtype), targets.repeat(self.copies, 1))

    def _rounding(self, values: int, std: float) -> float:
        """The share of the radius that this kind of noise takes for its rounding."""
        slack = noise_named(self.noise).sensitivity_slack(values, std) / self.radius
        if not slack < 1:
            raise NotPrivateError(
                f"Expected rounding to take less than the radius, got {slack:.2g} of it for {values} values.",
                remedy="Use a finer grid for the noise.",
            )
        return slack


def answered(targets: torch.Tensor, truth: float, source: NoiseSource) -> torch.Tensor:
    """Each label with probability `truth`, else one drawn from all classes.

    Args:
        targets: [k, classes], rows of one 1.
        truth: in [0, 1].
        source: of randomness.
    """
    rows, classes = targets.shape
    kept = torch.from_numpy(source.uniform(rows) < truth * INSIDE)
    drawn = torch.from_numpy(source.integers(classes, rows))
    return torch.eye(classes, dtype=targets.dtype)[torch.where(kept, targets.argmax(dim=1), drawn)]


@cache
def _solved(
    target_epsilon: float, delta: float, copies: int, relation: Adjacency, alongside: tuple[Mechanism, ...]
) -> float:
    """The least noise multiplier of the inputs that keeps the target, all mechanisms together."""

    def made(noise: float) -> Mechanism:
        return Gaussian(noise_multiplier=noise, steps=copies, adjacency=relation)

    return calibrated(made, Target(target_epsilon, delta, alongside), NOISES, rising=False)
