"""Samplers draw what the accounting assumes: inclusion, independence, the law of batch sizes.

Error rates: about 1e-6 per check, before the seed was fixed where there is one, and at each run of the system's source.
Broken samplers (a wrong rate, a fixed size, shuffled epochs, a biased cut) are shown to be rejected at the same level.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, chi2, norm

from sfumato.private.noise import SeededNoise, SystemNoise
from sfumato.private.sampling import Poisson, TruncatedPoisson, UnitRows, physical_batches

LEVEL = 1e-6
UNITS, RATE, STEPS, MOST = 40, 0.25, 4000, 11


def drawn(sampler, source, steps=STEPS):
    """bool [steps, units]."""
    found = np.zeros((steps, UNITS), dtype=bool)
    for step in range(steps):
        found[step, sampler.draw(UNITS, source.at("sample", step))] = True
    return found


def poisson(source=None):
    return drawn(Poisson(sample_rate=RATE), source or SeededNoise(31))


def shuffled():
    """Broken: epochs of four batches of ten, in random order."""
    rng = np.random.default_rng(1)
    found = np.zeros((STEPS, UNITS), dtype=bool)
    for epoch in range(STEPS // 4):
        found[np.repeat(np.arange(4), 10) + 4 * epoch, rng.permutation(UNITS)] = True
    return found


def fixed_size():
    """Broken: ten units without replacement, anew at each step."""
    rng = np.random.default_rng(2)
    found = np.zeros((STEPS, UNITS), dtype=bool)
    for row in found:
        row[rng.choice(UNITS, 10, replace=False)] = True
    return found


def of_rate(rate):
    return np.random.default_rng(3).random((STEPS, UNITS)) < rate


def inclusion_p(found, rate):
    """Chi-square over units of how often each was drawn."""
    z = (found.sum(0) - len(found) * rate) / math.sqrt(len(found) * rate * (1 - rate))
    statistic = float(np.sum(z**2))
    return 2 * min(chi2.sf(statistic, found.shape[1]), chi2.cdf(statistic, found.shape[1]))


def size_p(sizes, probabilities):
    """Chi-square of how often each batch size came; rare sizes are taken together."""
    counts = np.bincount(sizes, minlength=len(probabilities))[: len(probabilities)]
    expected = probabilities * len(sizes)
    common = expected >= 5
    observed, wanted = (np.append(row[common], row[~common].sum()) for row in (counts, expected))
    statistic = float(np.sum((observed - wanted) ** 2 / np.maximum(wanted, 1e-9)))
    return chi2.sf(statistic, common.sum())


def pairs_z(found, rate):
    """The largest normal score of the covariance of any two units in a step, and that of their sum over all pairs."""
    centred = (found - rate) / math.sqrt(rate * (1 - rate))
    products = (centred.T @ centred)[np.triu_indices(found.shape[1], 1)] / math.sqrt(len(found))
    return float(np.abs(products).max()), abs(float(products.sum())) / math.sqrt(len(products))


def steps_z(found, rate):
    """The normal score of the covariance of one unit's presence in consecutive steps, over all units."""
    centred = (found - rate) / math.sqrt(rate * (1 - rate))
    products = centred[1:] * centred[:-1]
    return abs(float(products.sum())) / math.sqrt(products.size)


PAIRS = UNITS * (UNITS - 1) // 2
WORST = norm.isf(LEVEL / 2 / PAIRS) + 0.5  # products of two rare events have a slightly heavier tail than the normal
Z = norm.isf(LEVEL / 2)
BINOMIAL = binom.pmf(np.arange(UNITS + 1), UNITS, RATE)


@pytest.mark.parametrize("source", [SeededNoise(31), SystemNoise()], ids=["seeded", "system"])
def test_poisson_draws_are_independent_coins(source):
    found = poisson(source)
    assert inclusion_p(found, RATE) > LEVEL
    assert size_p(found.sum(1), BINOMIAL) > LEVEL
    worst, together = pairs_z(found, RATE)
    assert worst < WORST
    assert together < Z
    assert steps_z(found, RATE) < Z


def test_broken_samplers_are_rejected():
    for rate in (RATE * 0.95, RATE * 1.05):
        assert inclusion_p(of_rate(rate), RATE) < LEVEL
    for broken in (shuffled(), fixed_size()):
        assert size_p(broken.sum(1), BINOMIAL) < LEVEL
        assert pairs_z(broken, RATE)[1] > Z
    assert steps_z(shuffled(), RATE) > Z


def truncated(source=None):
    sampler = TruncatedPoisson(sample_rate=RATE, max_batch_size=MOST, units=UNITS)
    return drawn(sampler, source or SeededNoise(32))


def truncated_sizes():
    law = BINOMIAL[: MOST + 1].copy()
    law[MOST] = BINOMIAL[MOST:].sum()
    return law


def test_truncated_draws_have_the_law_of_a_cut_binomial():
    found, law = truncated(), truncated_sizes()
    assert size_p(found.sum(1), law) > LEVEL
    assert size_p(found.sum(1), BINOMIAL[: MOST + 1] / BINOMIAL[: MOST + 1].sum()) < LEVEL
    rate = float((law * np.arange(MOST + 1)).sum()) / UNITS
    assert inclusion_p(found, rate) > LEVEL
    assert inclusion_p(found, RATE) < LEVEL


def test_the_cut_favours_nobody():
    """Among full batches every unit is as likely as any other; a cut that keeps the first ones is rejected."""
    full = truncated()
    full = full[full.sum(1) == MOST]
    assert inclusion_p(full, MOST / UNITS) > LEVEL
    first = poisson()
    for row in first:
        row[np.flatnonzero(row)[MOST:]] = False
    first = first[first.sum(1) == MOST]
    assert inclusion_p(first, MOST / UNITS) < LEVEL


def test_records_beyond_the_cap_are_chosen_with_equal_probability():
    rows, cap, times = UnitRows.of(np.zeros(9, dtype=np.int64), 1), 4, 3000
    found = np.zeros((times, 9), dtype=bool)
    for time in range(times):
        (batch,) = physical_batches(np.array([0]), rows, 2, cap, SeededNoise(33).at(time))
        found[time, batch.rows[batch.mask]] = True
    assert (found.sum(1) == cap).all()
    z = (found.sum(0) - times * cap / 9) / math.sqrt(times * cap / 9 * (1 - cap / 9))
    assert LEVEL < chi2.sf(float(np.sum(z**2)) * 8 / 9, 8) < 1 - LEVEL  # the nine counts add up to a constant


@pytest.mark.statistical
@pytest.mark.slow
def test_rare_draws_of_many_units_have_the_law():
    units, rate, steps = 60_000, 256 / 60_000, 1500
    sampler, source = Poisson(sample_rate=rate), SystemNoise()
    counts, sizes = np.zeros(units), []
    for _ in range(steps):
        found = sampler.draw(units, source)
        counts[found] += 1
        sizes.append(len(found))
    z = (np.array(sizes) - units * rate) / math.sqrt(units * rate * (1 - rate))
    assert abs(z.sum()) / math.sqrt(steps) < Z
    assert LEVEL < chi2.sf(float(np.sum(z**2)), steps) < 1 - LEVEL
    tallies = np.bincount(counts.astype(int), minlength=40)
    expected = binom.pmf(np.arange(len(tallies)), steps, rate) * units
    common = expected > 10
    assert chi2.sf(float(np.sum((tallies - expected)[common] ** 2 / expected[common])), common.sum()) > LEVEL
