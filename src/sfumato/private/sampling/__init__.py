"""Sampling: which units enter a step, and how they are cut into batches of one shape."""

from sfumato.private.sampling.base import Sampler
from sfumato.private.sampling.physical import PhysicalBatch, UnitRows, physical_batches
from sfumato.private.sampling.poisson import Poisson
from sfumato.private.sampling.truncated_poisson import TruncatedPoisson
from sfumato.private.sampling.uncovered import UNCOVERED, refuse_uncovered

__all__ = [
    "UNCOVERED",
    "PhysicalBatch",
    "Poisson",
    "Sampler",
    "TruncatedPoisson",
    "UnitRows",
    "physical_batches",
    "refuse_uncovered",
]
