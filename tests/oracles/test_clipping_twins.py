"""Clipping against slow twins, written unit by unit from the papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.private.clipping import AdaptiveQuantile, Automatic, Flat, Global, Normalised, PerLayer
from sfumato.private.noise import SeededNoise


def whole(norms):
    return math.sqrt(sum(n * n for n in norms))


CASES = {
    "flat": (Flat(max_grad_norm=1.3), lambda n: [min(1.0, 1.3 / whole(n))] * 4),
    "automatic": (Automatic(max_grad_norm=1.3, gamma=0.2), lambda n: [1.3 / (whole(n) + 0.2)] * 4),
    "global": (Global(max_grad_norm=1.3), lambda n: [1.0 if whole(n) <= 1.3 else 0.0] * 4),
    "normalised": (Normalised(max_grad_norm=1.3), lambda n: [1.3 / whole(n)] * 4),
    "per-layer": (
        PerLayer(max_grad_norms=(0.1, 0.5, 1.0, 2.0)),
        lambda n: [min(1.0, c / x) for c, x in zip((0.1, 0.5, 1.0, 2.0), n, strict=True)],
    ),
    "per-layer, even": (PerLayer(max_grad_norm=1.3), lambda n: [min(1.0, 1.3 / 2 / x) for x in n]),
    "adaptive": (AdaptiveQuantile(initial=1.3), lambda n: [min(1.0, 1.3 / whole(n))] * 4),
}


@pytest.mark.parametrize("case", CASES)
def test_factors_are_those_of_the_formula(case):
    method, formula = CASES[case]
    norms = SeededNoise(1, case).fill(torch.empty(50, 4, dtype=torch.float64)).abs() + 1e-3
    expected = torch.tensor([formula(row) for row in norms.tolist()], dtype=torch.float64)
    got = method.factors(norms.square(), method.initial_state(4))
    assert torch.allclose(got, expected, rtol=1e-12, atol=0)
    single = method.factors(norms.square().float(), method.initial_state(4))
    assert torch.allclose(single.double(), expected, rtol=3e-6, atol=0)


def test_adaptive_clipping_follows_algorithm_1():
    method = AdaptiveQuantile(initial=3.0, quantile=0.4, learning_rate=0.25, count_noise_multiplier=1.7)
    source, bound = SeededNoise(2), 3.0
    state = method.initial_state(2)
    for step in range(40):
        size = 0 if step % 7 == 0 else 3 + step % 5
        norms = source.at("norms", step).fill(torch.empty(size, 2)).abs() * 2
        mask = torch.arange(size) != 1
        noise = source.at("count", step).fill(torch.empty(1, dtype=torch.float64)).item()
        total = 0.0
        for unit in range(size):
            if mask[unit]:
                within = math.sqrt(float(norms[unit, 0]) ** 2 + float(norms[unit, 1]) ** 2) <= bound
                total += (1.0 if within else 0.0) - 0.5
        share = (total + 1.7 * noise) / 6.0 + 0.5
        bound = bound * math.exp(-0.25 * (share - 0.4))
        state = method.updated(state, norms.square(), mask, source.at("count", step), 6.0)
        assert state.max_grad_norms == pytest.approx((bound,), rel=1e-12)
