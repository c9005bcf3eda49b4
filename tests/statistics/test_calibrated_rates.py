"""Rates of each unit by itself, without leakage. Each test fails by chance with probability below 1e-4."""

import numpy as np
import pytest
from scipy.stats import binom

from sfumato.attacks.membership.lira import online_scores
from sfumato.audit.statistics import calibrated_tpr
from sfumato.data.membership import Membership

pytestmark = pytest.mark.statistical
MODELS, UNITS = 40, 100


def rates(scores, members, seed, **more):
    return calibrated_tpr(scores, members, fprs=(0.1,), rng=np.random.default_rng(seed), **more)[0]


def exchangeable(run):
    """Scores that know nothing, of units that differ in level and spread as much as they like."""
    rng = np.random.default_rng(run)
    members = Membership.half_pairs(UNITS, MODELS, rng).matrix
    return rng.normal(size=(MODELS, UNITS)) * rng.exponential(size=UNITS) + 5 * rng.normal(size=UNITS), members


def test_without_leakage_each_unit_is_found_as_often_as_its_own_rate_says():
    """20 OUT models: a rate of 10% comes to 2 of 21. The mean over 200 games of 2,000 members is good to 0.1 points."""
    found = [rates(*exchangeable(run), run, replicates=2).value for run in range(200)]
    assert np.mean(found) == pytest.approx(2 / 21, abs=4 * np.std(found) / np.sqrt(200))
    assert np.mean(found) <= 0.1


def test_the_interval_holds_the_rate():
    """Coverage over 200 games at 95%; wider than needed is no fault."""
    missed = 0
    for run in range(200):
        found = rates(*exchangeable(1000 + run), run, replicates=100)
        missed += not found.low <= 2 / 21 <= found.high
    assert missed <= binom.isf(1e-4, 200, 0.05)


def test_shared_references_make_the_rate_read_low_without_leakage_never_high():
    """What the note on such attacks says: leave-one-out LiRA on signals that know nothing."""
    found = []
    for run in range(20):
        rng = np.random.default_rng(run)
        design = Membership.half_pairs(UNITS, MODELS, rng)
        signals = rng.normal(size=(MODELS, UNITS, 1)) + rng.normal(size=(UNITS, 1))
        scores = [
            online_scores(signals[m], signals[others], design.matrix[others], "auto", "mean")
            for m in range(MODELS)
            for others in [design.references_for(m)]
        ]
        found.append(rates(np.stack(scores), design.matrix, run, replicates=2).value)
    assert np.mean(found) < 0.08
