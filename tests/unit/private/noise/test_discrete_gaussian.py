"""The discrete Gaussian: exact, on its grid, and within the slack it asks for."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sfumato.errors import UsageError
from sfumato.private.noise import DiscreteGaussian, SeededNoise, discrete_gaussian
from sfumato.private.noise.discrete_gaussian import sample


def mass(sigma, reach):
    """The probability of each of -reach .. reach."""
    x = np.arange(-reach, reach + 1)
    weight = np.exp(-(x**2) / (2 * float(sigma) ** 2))
    return x, weight / weight.sum()


@pytest.mark.parametrize("sigma", [Fraction(1, 3), Fraction(1), Fraction(5, 2), Fraction(31, 4)], ids=str)
def test_the_law_is_that_of_the_definition(sigma):
    """False alarm 1e-6 (chi-square)."""
    n = 100_000
    x, p = mass(sigma, math.ceil(12 * sigma))
    found = sample(n, sigma, SeededNoise(1, str(sigma)))
    counts = np.bincount(found + x[-1], minlength=len(x))
    common = p * n > 10
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(p[common], p[~common].sum()) * n
    keep = expected > 1
    assert observed[~keep].sum() <= 20
    assert chisquare(observed[keep], expected[keep] * observed[keep].sum() / expected[keep].sum()).pvalue > 1e-6
    wrong = mass(sigma * Fraction(21, 20), math.ceil(12 * sigma))[1][: len(x)]
    wrong = np.append(wrong[common], wrong[~common].sum())[keep]
    assert chisquare(observed[keep], wrong / wrong.sum() * observed[keep].sum()).pvalue < 1e-6


def test_fast_comparisons_agree_with_exact_arithmetic(monkeypatch):
    """With an error bound that nothing meets, every comparison is made in exact arithmetic."""
    for sigma in (Fraction(3, 2), Fraction(2**20) + Fraction(1, 3)):
        fast = sample(300, sigma, SeededNoise(5))
        with monkeypatch.context() as patch:
            patch.setattr(discrete_gaussian, "SLOP", 2.0**60)
            exact = sample(300, sigma, SeededNoise(5))
        assert np.array_equal(fast, exact)


def test_undecided_bits_are_drawn_and_settled():
    """A word that begins a uniform at the very edge of an outcome needs more bits."""
    asked = []

    class Asked(SeededNoise):
        def words(self, n):
            asked.append(n)
            return super().words(n)

    edge = int(Fraction(math.exp(-1.0)) * 2**64)  # log is -1 up to 2^-53, so 64 bits may or may not tell
    for word in range(edge - 3000, edge + 3000, 500):
        discrete_gaussian._exact_geometric(word, 1, Asked(1))
    assert discrete_gaussian._exact_geometric(0, 1, Asked(1)) >= 44
    assert len(asked) >= 1
    assert discrete_gaussian._exact_below_exp(2**63 - 1, Fraction(0), Asked(1))
    assert not discrete_gaussian._exact_below_exp(2**63 - 1, Fraction(1), Asked(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_result_lies_on_the_grid_and_has_the_scale(dtype):
    kind, std = DiscreteGaussian(granularity=2.0**-10), 3.0
    step = kind.step(std)
    assert math.log2(step) == int(math.log2(step))
    assert std * 2.0**-11 < step <= std * 2.0**-10
    values = torch.linspace(-2, 2, 20_000, dtype=dtype)
    noisy = kind.add(values.clone().reshape(200, 100), std, SeededNoise(1)).reshape(-1)
    assert torch.equal(torch.round(noisy / step) * step, noisy)
    assert abs(float((noisy - values).std()) / std - 1) < 5 / math.sqrt(2 * 20_000)
    assert abs(float((noisy - values).mean())) < 5 * std / math.sqrt(20_000)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30), st.floats(1e-3, 1e3), st.sampled_from([2.0**-3, 2.0**-8, 2.0**-20]), st.integers(0, 2**32 - 1)
)
def test_rounding_stays_within_the_slack(entries, std, granularity, seed):
    rng = np.random.default_rng(seed)
    kind = DiscreteGaussian(granularity=granularity)
    total, contribution = (torch.from_numpy(rng.normal(size=entries) * std) for _ in range(2))
    with_it, without = (
        discrete_gaussian._to_grid(sums, kind.step(std)).double() * kind.step(std)
        for sums in (total + contribution, total)
    )
    bound = float(contribution.norm()) + kind.sensitivity_slack(entries, std)
    assert float((with_it - without).norm()) <= bound * (1 + 1e-12)


def test_half_the_slack_would_not_do():
    kind, std = DiscreteGaussian(granularity=2.0**-3), 8.0  # a step of 1: 0.4 + 0.2 rounds to 1, 0.4 to 0
    sums = torch.full((100,), 0.4, dtype=torch.float64)
    moved = (discrete_gaussian._to_grid(sums + 0.2, 1.0) - discrete_gaussian._to_grid(sums, 1.0)).double().norm()
    assert kind.step(std) == 1
    assert float(moved) > 0.2 * 10 + kind.sensitivity_slack(100, std) / 2
    assert float(moved) <= 0.2 * 10 + kind.sensitivity_slack(100, std)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(UsageError, match="granularity"):
        DiscreteGaussian(granularity=1.0)
    with pytest.raises(UsageError, match="finite sums"):
        DiscreteGaussian().add(torch.tensor([1.0, float("nan")]), 1.0, SeededNoise(1))
    with pytest.raises(UsageError, match="finite sums"):
        DiscreteGaussian(granularity=2.0**-30).add(torch.tensor([2.0**30]), 1.0, SeededNoise(1))
    with pytest.raises(UsageError, match="float32"):
        DiscreteGaussian().add(torch.zeros(2, dtype=torch.bfloat16), 1.0, SeededNoise(1))


def test_no_noise_changes_nothing():
    values = torch.tensor([0.1, 0.2])
    assert torch.equal(DiscreteGaussian().add(values.clone(), 0.0, SeededNoise(1)), values)
    assert DiscreteGaussian().sensitivity_slack(10, 0.0) == 0
