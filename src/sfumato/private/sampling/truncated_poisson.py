"""Truncated Poisson sampling: batches have a maximum size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.truncated_poisson_gaussian import TruncatedPoissonGaussian
from sfumato.errors import NotPrivateError
from sfumato.private.noise.source import NoiseSource
from sfumato.private.sampling.base import Sampler, check_sample_rate, poisson_draw
from sfumato.types import Rows
from sfumato.validate import at_least


@dataclass(frozen=True, kw_only=True)
class TruncatedPoisson(Sampler):
    """Poisson sampling, of which a uniformly random subset stays if more than the maximum were drawn.

    (Chua et al., arXiv 2411.04205; accounting of arXiv 2508.15089.) Every step then fits a fixed amount of memory. The
    accounting depends on the number of units, which must therefore be public: an adjacency that replaces a unit.

    Args:
        sample_rate: in (0, 1]; a public input.
        max_batch_size: the largest number of units in a step, at least 1.
        units: the public number of units.
    """

    name: ClassVar[str] = "truncated-poisson"
    summary: ClassVar[str] = "Poisson sampling with a maximum batch size."
    reference: ClassVar[str] = "chua2024scalable"
    bibtex: ClassVar[str] = """@inproceedings{chua2024scalable,
  author = {Chua, Lynn and Ghazi, Badih and Kamath, Pritish and Kumar, Ravi and Manurangsi, Pasin and Sinha, Amer and
            Zhang, Chiyuan},
  title = {Scalable DP-SGD: Shuffling vs. Poisson Subsampling},
  booktitle = {Advances in Neural Information Processing Systems 37},
  year = {2024}
}"""

    sample_rate: float
    max_batch_size: int
    units: int

    def __post_init__(self) -> None:
        check_sample_rate(self.sample_rate)
        at_least("max_batch_size", self.max_batch_size, 1)
        at_least("units", self.units, 1)

    def draw(self, units: int, source: NoiseSource) -> Rows:
        if units != self.units:
            raise NotPrivateError(
                f"Expected the {self.units} units that the accounting of truncated sampling is for, got {units}.",
                remedy="Set `units` to the public number of units; if that number is private, use Poisson sampling.",
            )
        return truncated(poisson_draw(units, self.sample_rate, source), self.max_batch_size, source)

    def mechanism(self, noise_multiplier: float, steps: int, adjacency: Adjacency) -> TruncatedPoissonGaussian:
        return TruncatedPoissonGaussian(
            sample_rate=self.sample_rate,
            noise_multiplier=noise_multiplier,
            steps=steps,
            units=self.units,
            max_batch_size=self.max_batch_size,
            adjacency=adjacency,
        )


def truncated(drawn: Rows, most: int, source: NoiseSource) -> Rows:
    """`drawn` [k], or a uniformly random subset of `most` of them, in their order."""
    return drawn if len(drawn) <= most else drawn[random_subset(len(drawn), most, source)]


def random_subset(n: int, size: int, source: NoiseSource) -> Rows:
    """int64 [size], ascending: a uniformly random subset of 0 .. n-1 (the places of the smallest of n random words)."""
    return np.sort(np.argsort(source.words(n), kind="stable")[:size]).astype(np.int64)
