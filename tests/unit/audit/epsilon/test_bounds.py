"""Golden values, ceilings, threshold choices and refusals of the epsilon bounds."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.audit import epsilon as eps
from sfumato.errors import UsageError

GOLDEN = [
    (100, 100, 100, 0, 3.4930, 8.216),
    (500, 500, 500, 1e-5, 5.1010, 11.145),
    (1000, 1000, 1000, 0, 5.8091, 12.335),
    (1000, 1000, 1000, 1e-5, 5.7823, 12.335),
    (1000, 100, 100, 1e-5, 3.4654, 5.549),
    (1000, 100, 95, 1e-5, 2.1652, 3.323),
    (1000, 200, 180, 1e-5, 1.7963, 2.901),
    (1000, 1000, 600, 1e-5, 0.2972, 0.584),
    (5000, 500, 490, 1e-5, 3.3357, 4.950),
    (5000, 5000, 5000, 1e-5, 7.2839, 14.997),
]
CHOICES = [
    eps.FixedThreshold(0.5),
    eps.HullVertices(),
    eps.RankGrid(),
    eps.HalfSplit(),
    eps.RandomSplits(splits=5),
]
BOUNDS = [eps.clopper_pearson_bound, eps.gaussian_dp_bound]
ONE_RUN = [eps.one_run_bound, eps.one_run_f_dp_bound]


@pytest.mark.parametrize(("m", "guesses", "correct", "delta", "steinke", "f_dp"), GOLDEN)
def test_golden_one_run(m, guesses, correct, delta, steinke, f_dp):
    outcome = eps.Guesses(m, guesses, correct)
    assert eps.one_run_epsilon(outcome, 0.05, delta) == pytest.approx(steinke, abs=5.1e-5)
    assert eps.one_run_f_dp_epsilon(outcome, 0.05, 1e-5) == pytest.approx(f_dp, abs=5.1e-4)


@pytest.mark.parametrize(
    ("n", "ceiling"),
    [(50, 2.57), (100, 3.28), (250, 4.21), (500, 4.91), (1000, 5.60), (2500, 6.52), (5000, 7.21), (10_000, 7.90),
     (25_000, 8.82)],
)  # fmt: skip
def test_golden_clopper_pearson_ceilings(n, ceiling):
    """ln(1 / u - 1) with u = 1 - 0.025^(1/n)."""
    found = eps.clopper_pearson_ceiling(n, n, delta=0.0)
    assert found == pytest.approx(ceiling, abs=5.1e-3)
    assert found == pytest.approx(np.log(1 / (1 - 0.025 ** (1 / n)) - 1))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: type(choice).__name__)
def test_a_perfect_attacker_reaches_the_ceiling_and_nobody_passes_it(bound, choice):
    rng = np.random.default_rng(0)
    kept = {"independent_trials": True, "delta": 1e-5, "rng": rng}
    perfect = bound(rng.uniform(0.6, 1, 200), rng.uniform(0, 0.4, 200), choice, **kept)
    assert perfect.value == pytest.approx(perfect.ceiling)
    assert perfect.value > 2
    imperfect = bound(rng.normal(1.5, 1, 200), rng.normal(0, 1, 200), choice, **kept)
    assert 0 < imperfect.value < imperfect.ceiling
    assert imperfect.n == 400
    backwards = bound(rng.normal(-2, 1, 200), rng.normal(0, 1, 200), choice, **kept)
    assert backwards.value == 0


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: type(choice).__name__)
def test_scores_that_all_tie_show_nothing(bound, choice):
    found = bound(np.ones(50), np.ones(60), choice, independent_trials=True, delta=1e-5, rng=np.random.default_rng(0))
    assert found.value == 0


def test_what_each_choice_costs_shows_in_its_ceiling():
    rng = np.random.default_rng(0)
    pair = rng.uniform(0.6, 1, 200), rng.uniform(0, 0.4, 200)
    fixed, hull, grid, half, many = (
        eps.clopper_pearson_bound(*pair, choice, independent_trials=True, delta=0.0, rng=rng).ceiling
        for choice in CHOICES
    )
    assert fixed == hull == pytest.approx(eps.clopper_pearson_ceiling(200, 200, delta=0.0))
    assert half == pytest.approx(eps.clopper_pearson_ceiling(100, 100, delta=0.0))
    assert many == pytest.approx(eps.clopper_pearson_ceiling(100, 100, delta=0.0, confidence=0.975))
    # Ranks 0, 1, 2, 4, ..., 128 of either class: 18 thresholds.
    assert grid == pytest.approx(eps.clopper_pearson_ceiling(200, 200, delta=0.0, confidence=1 - 0.05 / 18))


@pytest.mark.parametrize("bound", BOUNDS)
def test_trials_that_share_a_run_are_refused_and_one_run_is_named(bound):
    with pytest.raises(UsageError, match="one_run"):
        bound([1.0], [0.0], eps.FixedThreshold(0.5), independent_trials=False, delta=1e-5)
    with pytest.raises(TypeError):
        bound([1.0], [0.0], eps.FixedThreshold(0.5), delta=1e-5)


@pytest.mark.parametrize("bound", ONE_RUN)
def test_canaries_without_coins_are_refused(bound):
    with pytest.raises(UsageError, match="fair coins"):
        bound([1.0, 0.0], [True, False], [eps.GuessCounts(1, 1)], independent_coins=False, delta=1e-5)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("bad", [[], [np.nan, 1.0]])
def test_scores_that_cannot_be_judged_are_refused(bound, bad):
    with pytest.raises(UsageError, match="Expected"):
        bound(bad, [0.0], eps.FixedThreshold(0.5), independent_trials=True, delta=1e-5)


def test_a_split_needs_a_generator():
    with pytest.raises(UsageError, match="random generator"):
        eps.clopper_pearson_bound([1.0, 2], [0.0, 1], eps.HalfSplit(), independent_trials=True, delta=0.0)


@pytest.mark.parametrize("delta", [-0.1, 1.0, float("nan")])
def test_delta_out_of_range_is_refused(delta):
    with pytest.raises(UsageError, match="delta"):
        eps.clopper_pearson_bound([1.0], [0.0], eps.FixedThreshold(0.5), independent_trials=True, delta=delta)


def test_a_gaussian_curve_has_no_epsilon_at_delta_zero():
    with pytest.raises(UsageError, match="delta"):
        eps.mu_to_epsilon(1.0, 0.0)


@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
def test_mu_and_epsilon_are_inverse(epsilon, delta):
    mu = eps.epsilon_to_mu(epsilon, delta)
    assert eps.mu_to_epsilon(mu, delta) == pytest.approx(epsilon, rel=1e-6, abs=1e-9)


def test_mu_to_epsilon_is_zero_where_delta_covers_it():
    assert eps.mu_to_epsilon(1e-7, 1e-5) == 0
    assert eps.mu_to_epsilon(0.0, 1e-5) == 0


@pytest.mark.parametrize("bound", ONE_RUN)
def test_one_run_from_scores(bound):
    rng = np.random.default_rng(0)
    included = rng.random(400) < 0.5
    listed = [eps.GuessCounts(20, 20), eps.GuessCounts(100, 100)]
    kept = {"independent_coins": True, "delta": 1e-5}
    perfect = bound(included + rng.uniform(0, 0.5, 400), included, listed, **kept)
    assert perfect.value == pytest.approx(perfect.ceiling)
    assert perfect.detail["guesses"] == 200
    # Two counts were listed, so each is tested at 2.5 %.
    assert perfect.ceiling < bound(included * 1.0, included, listed[1:], **kept).ceiling
    noisy = bound(included + rng.normal(0, 1, 400), included, listed, **kept)
    assert 0 < noisy.value < noisy.ceiling
    assert bound(-1.0 * included, included, listed, **kept).value == 0


def test_tied_scores_do_not_leak_the_order_in_which_canaries_are_listed():
    included = np.arange(1000) < 500
    for order in (slice(None), slice(None, None, -1)):
        found = eps.guess(np.zeros(1000), included[order], eps.GuessCounts(100, 100))
        assert 60 < found.correct < 140


@pytest.mark.parametrize("counts", [eps.GuessCounts(3, 3), eps.GuessCounts(0, 0), eps.GuessCounts(-1, 2)])
def test_impossible_guess_counts_are_refused(counts):
    with pytest.raises(UsageError, match="guesses"):
        eps.guess([0.0, 1, 2, 3], np.array([True, False, True, False]), counts)


def test_plug_in_is_an_estimate_and_says_so():
    found = eps.plug_in_epsilon([1, 1, 1, 0], [1, 0, 0, 0], 0.5, delta=0.0)
    assert found.value == pytest.approx(np.log(3))
    assert "not a bound" in found.method
    assert eps.plug_in_epsilon([1, 1], [0, 0], 0.5, delta=0.0).value is None
    assert eps.plug_in_epsilon([0, 1], [1, 1], 0.5, delta=0.0).value == 0


def test_hull_vertices_share_alpha():
    from sfumato.audit.epsilon.thresholds import checked_pair, counts_at, hull_thresholds

    rng = np.random.default_rng(0)
    pair = checked_pair(rng.normal(2, 1, 200), rng.normal(0, 1, 200))
    thresholds = hull_thresholds(pair)
    expected = eps.epsilon_from_counts(counts_at(pair, thresholds), 0.05 / thresholds.size, 1e-5).max()
    found = eps.clopper_pearson_bound(*pair, eps.HullVertices(), independent_trials=True, delta=1e-5)
    assert thresholds.size > 3
    assert found.value == pytest.approx(float(expected))


def test_a_split_certifies_only_on_scores_it_did_not_choose_on():
    rng = np.random.default_rng(0)
    pair = rng.normal(1, 1, 200), rng.normal(0, 1, 100)
    kept = {"independent_trials": True, "delta": 1e-5, "rng": rng}
    found = eps.clopper_pearson_bound(*pair, eps.HalfSplit(chosen_on=0.2), **kept)
    assert (found.detail["members"], found.detail["nonmembers"]) == (160, 80)
