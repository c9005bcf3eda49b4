"""Noise: where it comes from (`NoiseSource`) and what it is (`NoiseKind`)."""

from sfumato.private.noise.continuous_gaussian import ContinuousGaussian
from sfumato.private.noise.discrete_gaussian import DiscreteGaussian
from sfumato.private.noise.kind import NoiseKind
from sfumato.private.noise.seeded import SeededNoise
from sfumato.private.noise.source import NoiseSource
from sfumato.private.noise.system import SystemNoise

__all__ = ["ContinuousGaussian", "DiscreteGaussian", "NoiseKind", "NoiseSource", "SeededNoise", "SystemNoise"]
