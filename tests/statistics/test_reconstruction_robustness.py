"""Bounds on reconstruction against what really happens: coverage of the limits, and the attack's own closed form."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.accounting.reconstruction import rero_bound, rero_gaussian, rero_subsampled
from sfumato.audit.inversion.prior_aware import audit_reconstruction
from sfumato.private.plan import Plan

pytestmark = pytest.mark.statistical


def test_the_limits_hold_as_often_as_they_say():
    """At 90% over 300 seeds; the test fails by chance with probability below 0.001."""
    exact, seeds = float(rero_gaussian([0.02], 1.5)[0]), 300
    missed = 0
    for seed in range(seeds):
        found = rero_subsampled([0.02], 1.5, 1.0, 1, samples=1000, seed=seed, confidence=0.9)
        missed += not found.low[0] <= exact <= found.high[0]
    assert missed <= 0.1 * seeds + 3.1 * math.sqrt(0.09 * seeds)


def test_the_limits_are_no_wider_than_they_must_be():
    found = rero_subsampled([1 / 256], 1.0, 1.0, 1, samples=400_000, confidence=0.99)
    assert found.high[0] - found.low[0] < 0.02


@pytest.mark.parametrize("sample_rate", [0.02, 0.3])
def test_the_trade_off_curve_is_tight_under_sampling_where_adding_is_the_worse_direction(sample_rate):
    """Within 10% of the upper limit, and never below the lower one (error rate 0.01)."""
    mechanism = PoissonGaussian(
        noise_multiplier=1.0, steps=30, adjacency=Adjacency.ADD_OR_REMOVE_ONE, sample_rate=sample_rate
    )
    bound = float(rero_bound([mechanism], [1 / 256])[0])
    found = rero_subsampled([1 / 256], 1.0, sample_rate, 30, samples=400_000)
    assert found.low[0] <= bound <= 1.1 * found.high[0]


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (1.5, 4)])
def test_the_attack_succeeds_as_often_as_its_closed_form_says_and_near_the_bound(noise, steps):
    """The largest of 255 normals stays below one that is moved by sqrt(steps) / noise. Error rate 0.001."""
    shift = math.sqrt(steps) / noise
    expected = quad(lambda x: norm.pdf(x - shift) * norm.cdf(x) ** 255, -8, 8 + shift)[0]
    plan = Plan(
        sample_rate=1.0, steps=1, expected_batch_size=8, noise_multiplier=noise, delta=1e-5,
        adjacency=Adjacency.ADD_OR_REMOVE_ONE,
    )  # fmt: skip
    found = audit_reconstruction(plan, trials=600, steps=steps, trials_per_session=300, confidence=0.999, seed=7)
    assert found.low <= expected <= found.high
    assert not found.broken
    assert 0.75 * found.permitted < expected <= found.permitted


def test_an_honest_session_is_seldom_called_broken():
    """20 audits at 90%: more than 7 alarms come by chance with probability below 0.001."""
    plan = Plan(
        sample_rate=1.0, steps=1, expected_batch_size=4, noise_multiplier=1.0, delta=1e-5,
        adjacency=Adjacency.ADD_OR_REMOVE_ONE,
    )  # fmt: skip
    audits = [
        audit_reconstruction(
            plan, candidates=8, trials=60, steps=1, trials_per_session=60, confidence=0.9, seed=seed
        ).broken
        for seed in range(20)
    ]
    assert int(np.sum(audits)) <= 7
