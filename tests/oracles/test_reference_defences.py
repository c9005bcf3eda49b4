"""Defences with reference data: their formulas as loops over single numbers."""

import math

import numpy as np
import pytest
import torch

from sfumato.defences.advreg import attacker_loss, privacy_gain
from sfumato.defences.mixup_mmd import mmd2
from sfumato.defences.past import sparsity_gradient


def naive_mmd2(x, y, sigmas):
    def kernel(a, b):
        squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
        return sum(math.exp(-squared / (2 * sigma * sigma)) for sigma in sigmas)

    def mean(one, other):
        return sum(kernel(a, b) for a in one for b in other) / (len(one) * len(other))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


@pytest.mark.parametrize("sigmas", [(1.0,), (0.3, 1.0, 4.0)])
@pytest.mark.parametrize(("m", "n"), [(4, 4), (3, 7)])
def test_mmd(sigmas, m, n):
    rng = np.random.default_rng(m + n)
    x, y = rng.dirichlet(np.ones(3), size=m), rng.dirichlet(np.full(3, 5.0), size=n)
    found = mmd2(torch.from_numpy(x), torch.from_numpy(y), sigmas)
    assert float(found) == pytest.approx(naive_mmd2(x.tolist(), y.tolist(), sigmas), abs=1e-12)


def test_the_gradient_of_mmd_at_equal_points_is_finite():
    x = torch.full((3, 2), 0.5, dtype=torch.float64, requires_grad=True)
    mmd2(x, torch.full((3, 2), 0.5, dtype=torch.float64), (1.0,)).backward()
    assert torch.isfinite(x.grad).all()


def naive_attacker_loss(told, members, kind):
    total = 0.0
    for i, value in enumerate(told):
        h, truth = 1 / (1 + math.exp(-value)), 1.0 if i < members else 0.0
        total += (h - truth) ** 2 if kind == "mse" else -math.log(h if truth else 1 - h)
    return total / len(told)


@pytest.mark.parametrize("kind", ["mse", "bce"])
@pytest.mark.parametrize("members", [1, 3, 5])
def test_the_attackers_loss(kind, members):
    told = np.random.default_rng(members).normal(size=6)
    found = attacker_loss(torch.from_numpy(told), members, kind)
    assert float(found) == pytest.approx(naive_attacker_loss(told, members, kind), abs=1e-12)


def test_what_the_network_is_told():
    told = np.random.default_rng(4).normal(size=6)
    expected = 2.5 * (sum(1 / (1 + math.exp(-v)) for v in told) / 6 - 0.5)
    assert float(privacy_gain(torch.from_numpy(told), 2.5)) == pytest.approx(expected, abs=1e-12)


def naive_sparsity(weight, gap, power, cap, penalty):
    mean = sum(gap) / len(gap)
    found = []
    for w, g in zip(weight, gap, strict=True):
        raised = min((g / mean) ** power, cap)
        found.append(raised * ((w > 0) - (w < 0)) if penalty == "l1" else raised * 2 * w)
    return found


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize(("power", "cap"), [(4.0, 1e4), (1.5, 1.2), (0.0, 1e4)])
def test_the_sparsity_gradient(penalty, power, cap):
    rng = np.random.default_rng(1)
    weight, gap = rng.normal(size=(3, 5)), np.abs(rng.normal(size=(3, 5)))
    weight[0, 0] = 0.0
    found = sparsity_gradient(torch.from_numpy(weight), torch.from_numpy(gap), power, cap, penalty)
    expected = naive_sparsity(weight.ravel().tolist(), gap.ravel().tolist(), power, cap, penalty)
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=1e-10, atol=1e-12)
