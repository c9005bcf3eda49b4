"""The contract of a sampler: how the units of a step are drawn, and the mechanism that this makes of the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.private.noise.source import NoiseSource
from sfumato.types import Rows
from sfumato.validate import at_least, in_range


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """How the units of one step are drawn. The accounting of a run is that of its sampler, and of no other.

    A sampler does not offer the size that its batches have on average: that number divides the noisy sum, and derived
    from the number of units it would be private under add-or-remove. The plan holds it, as a public input.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""

    @abstractmethod
    def draw(self, units: int, source: NoiseSource) -> Rows:
        """int64 [k]: the positions, ascending, of the units of one step, out of `units`; k is often 0 for few units.

        The draw is as private as the noise: it comes from the same kind of source, and who can repeat it knows who was
        in the step.
        """

    @abstractmethod
    def mechanism(self, noise_multiplier: float, steps: int, adjacency: Adjacency) -> Mechanism:
        """What an accountant needs to know of `steps` steps with this sampler.

        Raises:
            NotPrivateError: if no accounting is known for this sampler under `adjacency`.
        """


def poisson_draw(units: int, sample_rate: float, source: NoiseSource) -> Rows:
    """int64 [k], ascending: each of `units` positions independently with probability `sample_rate`.

    Uniforms are multiples of 2^-53, so the probability that is realised is above `sample_rate` by less than 2^-53.
    """
    at_least("units", units, 0)
    return np.flatnonzero(source.uniform(units) < sample_rate).astype(np.int64)


def check_sample_rate(sample_rate: float) -> None:
    """Refuse a rate that is no probability above 0."""
    in_range("sample_rate", sample_rate, 2.0**-40, 1)
