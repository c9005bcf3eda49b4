"""Adaptive clipping: the count's sensitivity, the split of the budget, the law of its noise, where it settles."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from sfumato.errors import UsageError
from sfumato.private.clipping import AdaptiveQuantile
from sfumato.private.clipping.adaptive_quantile import centred_count
from sfumato.private.noise import SeededNoise


def everyone(norms):
    return torch.ones(len(norms), dtype=torch.bool)


@pytest.mark.parametrize("joins", [0.0, 0.5, 1.0, 1.5, 1e30, float("nan"), float("inf")])
def test_a_unit_that_joins_moves_the_count_by_exactly_a_half(joins):
    """Uncentred bits would move it by 1, and the split of the budget would be wrong by a factor."""
    norms = torch.tensor([[0.2], [0.9], [3.0], [float("nan")]])
    more = torch.cat([norms, torch.tensor([[joins]])])
    moved = centred_count(more, everyone(more), 1.0) - centred_count(norms, everyone(norms), 1.0)
    assert moved == (0.5 if joins <= 1 else -0.5)


def test_padding_does_not_count():
    norms = torch.tensor([[0.2], [0.9], [3.0], [0.0]])
    mask = torch.tensor([True, False, True, False])
    assert centred_count(norms, mask, 1.0) == 0.0
    assert centred_count(norms, ~mask, 1.0) == 1.0


@pytest.mark.parametrize("z", [0.3, 1.0, 7.0])
def test_both_releases_together_cost_what_the_noise_multiplier_says(z):
    """Gaussian mechanisms compose by 1 / z^2 (sensitivity over standard deviation, squared, adds up)."""
    method = AdaptiveQuantile(initial=1.0, count_noise_multiplier=5.0)
    gradients = method.gradient_noise_multiplier(z, 100.0)
    assert gradients > z
    assert gradients**-2 + (0.5 / 5.0) ** 2 == pytest.approx(z**-2, rel=1e-12)


def test_a_count_that_would_spend_everything_is_refused():
    method = AdaptiveQuantile(initial=1.0, count_noise_multiplier=0.5)
    assert method.gradient_noise_multiplier(0.999, 100.0) > 10
    for z in (1.0, 1.5):
        with pytest.raises(UsageError, match="whole budget"):
            method.gradient_noise_multiplier(z, 100.0)
    with pytest.raises(UsageError, match="whole budget"):
        AdaptiveQuantile(initial=1.0).gradient_noise_multiplier(1.0, 10.0)  # 10 / 20 is not above 1 / 2


def test_noise_on_the_count_has_its_scale_and_an_empty_batch_is_no_exception():
    """False alarm 1e-6 per scale (Kolmogorov and Smirnov); scales wrong by 2/3 or 3/2 are rejected."""
    method = AdaptiveQuantile(initial=2.0, learning_rate=0.3, quantile=0.5)
    empty, steps = torch.empty(0, 1), []
    for step in range(1500):
        state = method.updated(method.initial_state(1), empty, everyone(empty), SeededNoise(3).at(step), 40.0)
        steps.append(-math.log(state.max_grad_norms[0] / 2.0) / 0.3)  # share - 1/2 = noise / m
    std = (40.0 / 20) / 40.0
    assert kstest(steps, "norm", args=(0, std)).pvalue > 1e-6
    for wrong in (2 / 3, 3 / 2):
        assert kstest(steps, "norm", args=(0, std * wrong)).pvalue < 1e-6


def test_the_divisor_is_the_expected_batch_size():
    method = AdaptiveQuantile(initial=1.0, learning_rate=1.0, quantile=0.0, count_noise_multiplier=1e-9)
    norms = torch.full((6, 1), 0.25)
    state = method.updated(method.initial_state(1), norms, everyone(norms), SeededNoise(1), 12.0)
    assert -math.log(state.max_grad_norms[0]) == pytest.approx(6 * 0.5 / 12 + 0.5, abs=1e-8)


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_the_bound_settles_at_the_quantile(quantile):
    method, source = AdaptiveQuantile(initial=50.0, quantile=quantile), SeededNoise(9)
    state, shares = method.initial_state(1), []
    for step in range(300):
        norms = source.at("data", step).fill(torch.empty(200, 1)).exp()
        state = method.updated(state, norms.square(), everyone(norms), source.at("count", step), 200.0)
        shares.append(0.5 * (1 + math.erf(math.log(state.max_grad_norms[0]) / math.sqrt(2))))
    assert sum(shares[150:]) / 150 == pytest.approx(quantile, abs=0.03)
