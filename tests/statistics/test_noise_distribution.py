"""Noise is normal, has its scale, and is independent across parameters, steps and ranks.

Error rates: about 1e-6 per check, before the seed was fixed where there is one, and at each run of the system's source.
Every check of the scale is shown to reject noise that is 2/3 or 3/2 of it, at the same level.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, chi2, kstest, norm

from sfumato.private.noise import ContinuousGaussian, DiscreteGaussian, SeededNoise, SystemNoise

LEVEL = 1e-6
Z = norm.isf(LEVEL / 2)
WRONG = (2 / 3, 3 / 2)
KINDS = {"continuous": ContinuousGaussian(), "discrete": DiscreteGaussian(), "coarse": DiscreteGaussian(2.0**-3)}
SOURCES = {"system": SystemNoise, "seeded": lambda: SeededNoise(20)}
of_every_source = pytest.mark.parametrize("source", SOURCES)
of_every_kind = pytest.mark.parametrize("kind", ["continuous", "discrete"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def noise(kind, source, n, std=1.0, dtype=torch.float64):
    return KINDS[kind].add(torch.zeros(n, dtype=dtype), std, source).numpy().astype(np.float64)


def anderson_darling(values):
    """The p-value of the case without estimated parameters (Marsaglia and Marsaglia 2004, for statistics above 2)."""
    x = np.sort(values)
    n, rank = len(x), np.arange(1, len(x) + 1)
    z = -n - np.mean((2 * rank - 1) * (norm.logcdf(x) + norm.logsf(x[::-1])))
    if z < 2:
        return 0.05
    if z > 12:  # the series is fitted up to here; the tail goes on falling like exp(-z)
        return 1e-6 * math.exp(12 - z)
    inner = 1.0776 - (2.30695 - (0.43424 - (0.082433 - (0.008056 - 0.0003146 * z) * z) * z) * z) * z
    return -math.expm1(-math.exp(inner))


def variance_p(values):
    """Two-sided chi-square test of variance 1 and mean 0."""
    total, n = float(np.sum(np.square(values))), len(values)
    return 2 * min(chi2.cdf(total, n), chi2.sf(total, n))


CHECKS = {"ks": lambda x: kstest(x, "norm").pvalue, "anderson-darling": anderson_darling, "variance": variance_p}


@of_every_source
@of_every_kind
@DTYPES
@pytest.mark.parametrize("check", CHECKS)
def test_noise_is_normal_with_its_scale(source, kind, dtype, check):
    found = noise(kind, SOURCES[source](), 4000, 2.5, dtype) / 2.5
    assert CHECKS[check](found) > LEVEL
    for wrong in WRONG:
        assert CHECKS[check](found * wrong) < LEVEL


@of_every_source
@DTYPES
def test_the_first_tails_are_as_heavy_as_they_should_be(source, dtype):
    n = 400_000
    found = np.abs(noise("continuous", SOURCES[source](), n, dtype=dtype))
    for edge in (2, 3, 4):
        beyond, p = int((found > edge).sum()), 2 * norm.sf(edge)
        assert binom.isf(1 - LEVEL, n, p) <= beyond <= binom.isf(LEVEL, n, p)
        assert int((found * WRONG[1] > edge).sum()) > binom.isf(LEVEL, n, p)


def lags_of(values, lags):
    centred = values - values.mean()
    return [float(np.mean(centred[lag:] * centred[:-lag]) / centred.var()) for lag in lags]


@DTYPES
@pytest.mark.parametrize("shape", [np.asarray, np.square, np.abs], ids=["values", "squares", "sizes"])
def test_neighbours_and_partners_in_a_stream_are_uncorrelated(dtype, shape):
    """Lag 512 joins the cosine and the sine of one pair, which share a radius."""
    n, lags = 200_000, (1, 2, 7, 511, 512, 513, 1024, 65_536)
    found = lags_of(shape(noise("continuous", SeededNoise(21), n, dtype=dtype)), lags)
    assert max(abs(c) * math.sqrt(n - lag) for c, lag in zip(found, lags, strict=True)) < Z + 1


def test_a_stream_that_repeats_is_seen():
    once = noise("continuous", SeededNoise(22), 100_000)
    assert abs(lags_of(np.tile(once, 2), [100_000])[0]) > 0.4


def streams(dtype=torch.float64, n=2000):
    """[streams, n]: normals of 3 ranks, 4 steps and 5 parameters, of one seed."""
    root = SeededNoise(23)
    names = [("rank", r, step, f"layers.{p}.weight") for r in range(3) for step in range(4) for p in range(5)]
    return torch.stack([root.at(*name).fill(torch.empty(n, dtype=dtype)) for name in names])


@DTYPES
def test_parameters_steps_and_ranks_are_uncorrelated(dtype):
    found = streams(dtype).double().numpy()
    worst = np.abs(np.corrcoef(found) - np.eye(len(found))).max() * math.sqrt(found.shape[1])
    assert worst < norm.isf(LEVEL / len(found) ** 2)
    mixed = found.copy()
    mixed[7] = 0.8 * mixed[7] + 0.6 * mixed[30]
    assert np.abs(np.corrcoef(mixed) - np.eye(len(found))).max() * math.sqrt(found.shape[1]) > 10


def test_the_variance_of_every_parameter_is_right():
    found = streams().numpy()
    assert min(variance_p(row) for row in found) > LEVEL / len(found)
    for wrong in WRONG:
        assert max(variance_p(row * wrong) for row in found) < LEVEL


def test_no_value_comes_twice():
    """In float64, among 120,000 numbers, a chance repeat has a probability below 1e-5."""
    found = streams()
    assert len(found.unique()) == found.numel()
    system = SystemNoise()
    drawn = torch.cat([system.fill(torch.empty(2000, dtype=torch.float64)) for _ in range(60)])
    assert len(torch.cat([found.reshape(-1), drawn]).unique()) == 240_000


@pytest.mark.parametrize("high", [2, 7, 1000])
def test_integers_are_uniform(high):
    n = 50_000
    counts = np.bincount(SeededNoise(24).integers(high, n), minlength=high)
    statistic = float(np.sum((counts - n / high) ** 2) / (n / high))
    assert LEVEL / 2 < chi2.sf(statistic, high - 1) < 1 - LEVEL / 2


@of_every_source
def test_uniforms_are_uniform(source):
    assert kstest(SOURCES[source]().uniform(50_000), "uniform").pvalue > LEVEL


@pytest.mark.statistical
@pytest.mark.slow
@of_every_source
@DTYPES
def test_many_draws_are_normal(source, dtype):
    """4 million: a scale that is off by half a percent is rejected too, and the tails are counted to 5 deviations."""
    n = 4_000_000
    found = noise("continuous", SOURCES[source](), n, dtype=dtype)
    for check in CHECKS.values():
        assert check(found) > LEVEL
    for wrong in (0.995, 1.005):
        assert variance_p(found * wrong) < LEVEL
    assert kstest(found * 1.01, "norm").pvalue < LEVEL
    for edge in (3, 4, 5):
        beyond, p = int((np.abs(found) > edge).sum()), 2 * norm.sf(edge)
        assert binom.isf(1 - LEVEL, n, p) <= beyond <= binom.isf(LEVEL, n, p)
    for power in (1, 3):
        odd = found**power
        assert abs(odd.mean()) * math.sqrt(n) < Z * odd.std() * 1.05
    assert abs(np.mean(found**4) - 3) * math.sqrt(n) < Z * math.sqrt(96)


@pytest.mark.statistical
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["discrete", "coarse"])
def test_many_discrete_draws_have_the_moments(kind):
    n = 1_000_000
    found = noise(kind, SystemNoise(), n, 3.0) / 3.0
    assert variance_p(found) > LEVEL
    assert abs(found.mean()) * math.sqrt(n) < Z
    assert abs(np.mean(found**4) - 3) * math.sqrt(n) < Z * math.sqrt(96)
    if kind == "discrete":
        assert kstest(found, "norm").pvalue > LEVEL
        assert anderson_darling(found) > LEVEL
    for wrong in (0.99, 1.01):
        assert variance_p(found * wrong) < LEVEL


@pytest.mark.statistical
@pytest.mark.slow
def test_p_values_are_uniform_over_many_streams():
    """Each check is calibrated, so that its error rate is what it says: 400 streams, Kolmogorov and Smirnov."""
    rows = [SeededNoise(25).at(i).fill(torch.empty(2000, dtype=torch.float64)).numpy() for i in range(400)]
    assert kstest([kstest(row, "norm").pvalue for row in rows], "uniform").pvalue > 1e-4
    assert kstest([variance_p(row) for row in rows], "uniform").pvalue > 1e-4
    assert sum(anderson_darling(row) < 0.01 for row in rows) <= binom.isf(1e-4, 400, 0.01)
