"""Slow loop versions of the epsilon bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from sfumato.audit import epsilon as eps


def naive_upper(k, n, alpha):
    """Clopper-Pearson by its definition: the rate at which k or fewer successes have probability alpha."""
    if k == n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if binom.cdf(k, n, middle) > alpha else (low, middle)
    return low


@pytest.mark.parametrize(
    ("fn", "n1", "fp", "n0", "delta"), [(3, 40, 5, 50, 0.0), (0, 20, 0, 30, 1e-3), (30, 60, 1, 60, 0)]
)
def test_clopper_pearson_bound_equals_its_definition(fn, n1, fp, n0, delta):
    missed, caught = naive_upper(fn, n1, 0.025), naive_upper(fp, n0, 0.025)
    expected = max(math.log((1 - missed - delta) / caught), math.log((1 - caught - delta) / missed))
    counts = eps.ErrorCounts(np.asarray(float(fn)), n1, np.asarray(float(fp)), n0)
    assert float(eps.epsilon_from_counts(counts, 0.05, delta)) == pytest.approx(expected, abs=1e-9)
    mu = norm.ppf(1 - caught) - norm.ppf(missed)
    assert float(eps.mu_from_counts(counts, 0.05)) == pytest.approx(mu, abs=1e-8)


@pytest.mark.parametrize(("m", "r", "v"), [(50, 50, 40), (50, 20, 20), (80, 30, 17), (30, 10, 0)])
@pytest.mark.parametrize("delta", [0.0, 1e-4])
def test_one_run_p_value_equals_a_loop(m, r, v, delta):
    for epsilon in (0.0, 0.7, 2.0):
        q = math.exp(epsilon) / (1 + math.exp(epsilon))
        beta = sum(binom.pmf(w, r, q) for w in range(v, r + 1))
        alpha = max((sum(binom.pmf(w, r, q) for w in range(v - i, v)) / i for i in range(1, v + 1)), default=0.0)
        expected = min(beta + 2 * m * delta * alpha, 1.0)
        assert eps.one_run_p_value(eps.Guesses(m, r, v), epsilon, delta) == pytest.approx(expected)


@pytest.mark.parametrize(("m", "r", "v"), [(60, 40, 35), (60, 60, 60), (60, 20, 11)])
def test_one_run_f_dp_rejects_as_the_recursion_written_out(m, r, v):
    for mu in (0.0, 0.3, 1.0, 2.0, 4.0):
        right, wrong = [0.05 * v / m], [0.05 * (r - v) / m]
        for i in range(v - 1, -1, -1):
            wrong.append(max(wrong[-1], norm.cdf(norm.ppf(right[-1]) - mu)))
            right.append(right[-1] + i / (r - i) * (wrong[-1] - wrong[-2]))
        assert eps.rejects_mu(eps.Guesses(m, r, v), mu, 0.05) == (right[-1] + wrong[-1] > r / m)


def test_delta_of_mu_equals_the_integral_of_the_hockey_stick():
    x = np.linspace(-12, 16, 400_001)
    for mu, epsilon in ((0.5, 0.2), (1.0, 1.0), (3.0, 4.0)):
        excess = np.maximum(norm.pdf(x - mu) - np.exp(epsilon) * norm.pdf(x), 0)
        assert eps.delta_of_mu(mu, epsilon) == pytest.approx(excess.sum() * (x[1] - x[0]), abs=1e-8)


def test_guess_equals_sorting_by_hand():
    scores, included = np.array([5.0, 1, 4, 2, 3]), np.array([True, True, False, False, True])
    found = eps.guess(scores, included, eps.GuessCounts(2, 2))
    assert found == eps.Guesses(5, 4, 2)  # In: 5 right, 4 wrong; out: 1 wrong, 2 right.


def test_hull_keeps_exactly_the_vertices():
    from sfumato.audit.epsilon.thresholds import hull_thresholds
    from sfumato.audit.statistics import MemberScores, roc

    rng = np.random.default_rng(0)
    pair = MemberScores(rng.normal(1, 1, 30), rng.normal(0, 1, 30))
    curve, found = roc(*pair), set(hull_thresholds(pair))
    points = list(zip(curve.fpr, curve.tpr))
    for i, (x, y) in enumerate(points[1:-1], start=1):
        dominated = any(_above(x, y, before, after) for before in points[:i] for after in points[i + 1 :])
        assert (curve.thresholds[i] in found) == (not dominated)


def _above(x, y, before, after):
    """Whether the line from one point of the curve to a later one passes over (x, y) or through it."""
    (x0, y0), (x1, y1) = before, after
    return (x1 - x0) * (y - y0) <= (y1 - y0) * (x - x0) + 1e-12
