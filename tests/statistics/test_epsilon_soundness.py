"""No bound exceeds the truth more often than its rate allows, over 1,000 audits of mechanisms with known epsilon.

Error rate: each case allows a share 1 - confidence = 10 % of audits above the truth and fails only if the count
seen has probability below 1e-3 under that share; with 58 cases a sound build fails once in 17 seeds at most, and
far less often since most bounds are conservative. The seed is fixed, so a failure is reproducible.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sfumato.audit import epsilon as eps
from sfumato.audit.epsilon.thresholds import checked_pair, counts_at

pytestmark = pytest.mark.statistical

RUNS, CONFIDENCE, DELTA, TRIALS = 1000, 0.9, 1e-5, 500
ALLOWED = int(binom.isf(1e-3, RUNS, 1 - CONFIDENCE))
CHOICES = [
    eps.FixedThreshold(0.5),
    eps.HullVertices(),
    eps.RankGrid(),
    eps.HalfSplit(),
    eps.RandomSplits(splits=3),
]
GUESSES = [eps.GuessCounts(10, 10), eps.GuessCounts(30, 30), eps.GuessCounts(60, 0)]


def gaussian(mu):
    """One Gaussian release per trial: exactly mu-GDP."""
    return lambda rng: (rng.normal(mu, 1, TRIALS), rng.normal(0, 1, TRIALS))


def laplace(epsilon):
    """One Laplace release per trial: exactly (epsilon, 0)-DP, and tight at every threshold in either tail."""
    return lambda rng: (rng.laplace(epsilon, 1, TRIALS), rng.laplace(0, 1, TRIALS))


def above_truth(bound, draw, truth, **kept):
    rng = np.random.default_rng(20_261)
    return sum(bound(*draw(rng), rng=rng, **kept).value > truth + 1e-9 for _ in range(RUNS))


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: type(choice).__name__)
@pytest.mark.parametrize("mu", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("bound", [eps.clopper_pearson_bound, eps.gaussian_dp_bound])
def test_bounds_from_independent_trials_are_sound_on_a_gaussian(bound, mu, choice):
    truth = eps.mu_to_epsilon(mu, DELTA)
    kept = {"independent_trials": True, "delta": DELTA, "confidence": CONFIDENCE, "choice": choice}
    assert above_truth(bound, gaussian(mu), truth, **kept) <= ALLOWED


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: type(choice).__name__)
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_clopper_pearson_is_sound_where_it_is_tight(epsilon, choice):
    kept = {"independent_trials": True, "delta": 0.0, "confidence": CONFIDENCE, "choice": choice}
    assert above_truth(eps.clopper_pearson_bound, laplace(epsilon), epsilon, **kept) <= ALLOWED


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw_truth_bound",
    [
        (laplace(0.5), 0.5, lambda counts: eps.epsilon_from_counts(counts, 1 - CONFIDENCE, 0.0)),
        (gaussian(1.0), 1.0, lambda counts: eps.mu_from_counts(counts, 1 - CONFIDENCE)),
    ],
    ids=["Clopper-Pearson", "Gaussian DP"],
)
def test_the_uncorrected_maximum_over_thresholds_is_caught_by_this_harness(draw_truth_bound):
    """Power of the tests above: the common mistake must exceed what is allowed."""
    (draw, truth, bound), rng, above = draw_truth_bound, np.random.default_rng(0), 0
    for _ in range(RUNS):
        pair = checked_pair(*draw(rng))
        above += float(bound(counts_at(pair, np.concatenate(pair))).max()) > truth
    assert above > ALLOWED


@pytest.mark.parametrize("listed", [GUESSES[1:2], GUESSES], ids=["one count", "three counts"])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_one_run_is_sound_on_randomised_response(epsilon, listed):
    rng, above, truth = np.random.default_rng(1), 0, np.exp(epsilon) / (1 + np.exp(epsilon))
    for _ in range(RUNS):
        included = rng.random(100) < 0.5
        scores = np.where(rng.random(100) < truth, included, ~included) + 0.4 * rng.random(100)
        found = eps.one_run_bound(scores, included, listed, independent_coins=True, delta=0.0, confidence=CONFIDENCE)
        above += found.value > epsilon + 1e-9
    assert above <= ALLOWED


@pytest.mark.slow
@pytest.mark.parametrize("listed", [GUESSES[1:2], GUESSES], ids=["one count", "three counts"])
@pytest.mark.parametrize("mu", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("bound", [eps.one_run_bound, eps.one_run_f_dp_bound])
def test_one_run_bounds_are_sound_on_a_gaussian(bound, mu, listed):
    rng, above, truth = np.random.default_rng(2), 0, eps.mu_to_epsilon(mu, DELTA)
    for _ in range(RUNS):
        included = rng.random(100) < 0.5
        scores = rng.normal(size=100) + mu * included
        found = bound(scores, included, listed, independent_coins=True, delta=DELTA, confidence=CONFIDENCE)
        above += found.value > truth + 1e-9
    assert above <= ALLOWED


def test_the_splits_pay_for_their_choice_with_width_not_with_errors():
    """Every choice certifies something real on a strong leak: a bound of 0 would be sound and useless."""
    rng = np.random.default_rng(5)
    pair = rng.normal(3, 1, 500), rng.normal(0, 1, 500)
    for choice in (eps.FixedThreshold(1.5), *CHOICES[1:]):
        found = eps.clopper_pearson_bound(*pair, choice, independent_trials=True, delta=DELTA, rng=rng)
        assert 1.5 < found.value < eps.mu_to_epsilon(3.0, DELTA)
        assumed = eps.gaussian_dp_bound(*pair, choice, independent_trials=True, delta=DELTA, rng=rng)
        assert found.value < assumed.value < eps.mu_to_epsilon(3.0, DELTA)
