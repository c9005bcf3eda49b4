"""Poisson sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.private.citations import ABADI2016
from sfumato.private.noise.source import NoiseSource
from sfumato.private.sampling.base import Sampler, check_sample_rate, poisson_draw
from sfumato.types import Rows


@dataclass(frozen=True, kw_only=True)
class Poisson(Sampler):
    """Each unit enters each step with probability `sample_rate`, independently of all others and of other steps.

    Batches differ in size, and may be empty; an empty step releases noise, as the accounting demands.

    Args:
        sample_rate: in (0, 1]; a public input.
    """

    name: ClassVar[str] = "poisson"
    summary: ClassVar[str] = "Each unit enters each step independently, with one probability."
    reference: ClassVar[str] = "abadi2016deep"
    bibtex: ClassVar[str] = ABADI2016

    sample_rate: float

    def __post_init__(self) -> None:
        check_sample_rate(self.sample_rate)

    def draw(self, units: int, source: NoiseSource) -> Rows:
        return poisson_draw(units, self.sample_rate, source)

    def mechanism(self, noise_multiplier: float, steps: int, adjacency: Adjacency) -> PoissonGaussian:
        return PoissonGaussian(
            sample_rate=self.sample_rate, noise_multiplier=noise_multiplier, steps=steps, adjacency=adjacency
        )
