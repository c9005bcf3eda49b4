"""Slow versions of what inversion is measured with, straight from the formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import binom

from sfumato.audit.inversion.measures_gradient import Side, overlap, scored, stand_ins
from sfumato.audit.inversion.measures_spread import _jackknifed
from sfumato.audit.measured import Finding
from sfumato.audit.statistics.crossed import mean_influence, share_limits, spread, t_limits
from sfumato.audit.statistics.frechet import frechet_distance
from sfumato.audit.statistics.nearest import (
    nearest,
    nearest_of_some,
    neighbour_radii,
    share_nearer,
    squared_distances,
)
from sfumato.audit.statistics.prdc import prdc

whole = st.integers(-2, 2).map(float)
distances = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=6)


def naive_squared(a, b):
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def naive_radius(points, i, k):
    return sorted(naive_squared(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_nearest_points(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-2, 3, (7, 2)).astype(float), rng.integers(-2, 3, (5, 2)).astype(float)
    assert squared_distances(x, y) == pytest.approx(np.array([[naive_squared(a, b) for b in y] for a in x]))
    for chunk in (2, 100):
        found = nearest(x, y, chunk)
        assert found.distance == pytest.approx([min(naive_squared(a, b) for b in y) for a in x])
        assert found.which.tolist() == [min(range(len(y)), key=lambda j, a=a: naive_squared(a, y[j])) for a in x]
        assert neighbour_radii(x, 3, chunk) == pytest.approx([naive_radius(x, i, 3) for i in range(len(x))])


@given(distances, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_nearest_of_some_is_the_mean_over_all_choices(values, count):
    count = min(count, len(values))
    expected = np.mean([min(chosen) for chosen in itertools.combinations(values, count)])
    assert nearest_of_some(np.array([values]), count)[0] == pytest.approx(expected)


@given(distances, distances)
@settings(max_examples=80, deadline=None)
def test_share_nearer_is_the_mean_over_all_choices(own, other):
    count = min(len(own), len(other))
    won = [
        (min(a) < min(b)) + 0.5 * (min(a) == min(b))
        for a in itertools.combinations(own, count)
        for b in itertools.combinations(other, count)
    ]
    assert float(share_nearer(np.array(own), np.array(other))) == pytest.approx(np.mean(won))


@given(st.lists(st.integers(0, 3).map(float), min_size=4, max_size=7), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_fair_draw_of_the_sides_gives_one_half(values, inside):
    places = range(len(values))
    shares = []
    for chosen in itertools.combinations(places, inside):
        own, other = [values[i] for i in chosen], [values[i] for i in places if i not in chosen]
        shares.append(float(share_nearer(np.array(own), np.array(other))))
    assert np.mean(shares) == pytest.approx(0.5)


def naive_frechet(x, y):
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(sqrtm(s @ t))
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * np.trace(root)


def test_frechet_distance_is_the_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), 1 + rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5))
    assert frechet_distance(x, y) == pytest.approx(naive_frechet(x, y), rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_known_gaussians():
    """Of one feature it is (difference of means)^2 + (difference of standard deviations)^2."""
    x, y = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0], [7.0]])
    assert frechet_distance(x, y) == pytest.approx((1 - 7) ** 2 + (np.sqrt(2) - 2) ** 2)


def test_frechet_distance_holds_with_fewer_samples_than_features():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(4, 30)), rng.normal(size=(6, 30))
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(s)
    half = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ t @ half), 0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * common
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_shrinkage_moves_the_covariance_towards_the_identity():
    rng = np.random.default_rng(2)
    x, y, share = rng.normal(size=(50, 3)) * [1, 2, 3], rng.normal(size=(50, 3)), 0.3
    covariances = []
    for z in (x, y):
        s = np.cov(z, rowvar=False)
        covariances.append((1 - share) * s + share * np.trace(s) / 3 * np.eye(3))
    s, t = covariances
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t) - 2 * np.trace(np.real(sqrtm(s @ t)))
    assert frechet_distance(x, y, share) == pytest.approx(expected, rel=1e-9)


def naive_prdc(real, fake, k):
    n, m = range(len(real)), range(len(fake))
    within = [[naive_squared(real[i], fake[j]) <= naive_radius(real, i, k) for j in m] for i in n]
    precision = sum(any(within[i][j] for i in n) for j in m) / len(fake)
    density = sum(within[i][j] for i in n for j in m) / (k * len(fake))
    coverage = sum(any(within[i][j] for j in m) for i in n) / len(real)
    recall = sum(any(naive_squared(real[i], fake[j]) <= naive_radius(fake, j, k) for j in m) for i in n) / len(real)
    return precision, recall, density, coverage


@pytest.mark.parametrize(("seed", "k"), [(0, 3), (1, 1), (2, 2)])
def test_precision_recall_density_and_coverage(seed, k):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(17, 3)), 0.5 + 0.7 * rng.normal(size=(9, 3))
    found = prdc(real, fake, k)
    assert found == pytest.approx(naive_prdc(real, fake, k))
    assert found.precision > 0
    assert 0 < found.coverage < 1


def naive_scored(guesses, truth, labels, others, other_labels):
    """Every assignment tried."""
    best = min(
        itertools.permutations(range(len(truth))),
        key=lambda order: sum(naive_squared(truth[i], guesses[g]) for i, g in enumerate(order)),
    )
    width, errors, hits = len(truth[0]), [], []
    for i, g in enumerate(best):
        own = naive_squared(truth[i], guesses[g])
        rivals = [naive_squared(o, guesses[g]) for o, y in zip(others, other_labels, strict=True) if y == labels[i]]
        errors.append(own / width)
        hits.append(0 if min(rivals, default=np.inf) < own else 1 / (1 + sum(r == own for r in rivals)))
    return np.mean(errors), np.mean([10 * np.log10(1 / e) for e in errors]), np.mean(hits)


@pytest.mark.parametrize("seed", range(5))
def test_assigned_errors_and_identification(seed):
    rng = np.random.default_rng(seed)
    truth, others = rng.random((4, 3)), rng.random((9, 3))
    labels, other_labels = rng.integers(0, 2, 4), rng.integers(0, 2, 9)
    guesses = truth[rng.permutation(4)] + 0.3 * rng.normal(size=(4, 3))
    found = scored(guesses, Side(truth, labels), Side(others, other_labels))
    assert found[:3] == pytest.approx(naive_scored(guesses, truth, labels, others, other_labels))
    assert found.prior == pytest.approx(np.mean([1 / (1 + (other_labels == y).sum()) for y in labels]))


def test_stand_ins_have_the_wanted_classes_and_are_distinct():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 1, 2, 2, 2])
    for _ in range(20):
        drawn = stand_ins(np.array([2, 1, 2]), labels, rng)
        assert labels[drawn].tolist() == [2, 1, 2]
        assert len(set(drawn.tolist())) == 3
    assert stand_ins(np.array([0, 0]), labels, rng) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), max_size=6))
@settings(max_examples=40, deadline=None)
def test_overlap_counts_each_class_as_often_as_it_occurs(truth, found):
    left, hits = list(found), 0
    for label in truth:
        if label in left:
            left.remove(label)
            hits += 1
    assert overlap(found, truth) == pytest.approx(hits / len(truth))


def test_clusters_of_one_value_each_give_the_ordinary_t_interval():
    rng = np.random.default_rng(0)
    values = rng.normal(size=12)
    seen = spread(mean_influence(values), np.zeros(12, int), np.arange(12))
    assert seen.variance == pytest.approx(values.var(ddof=1) / 12)
    assert seen.freedom == 11
    found = t_limits(values.mean(), seen, 0.95)
    from scipy.stats import t

    assert found == pytest.approx(t.interval(0.95, 11, values.mean(), np.sqrt(values.var(ddof=1) / 12)))


def test_values_that_clusters_repeat_are_worth_one_each():
    values = np.random.default_rng(1).normal(size=9)
    once = spread(mean_influence(values), np.zeros(9, int), np.arange(9))
    often = spread(mean_influence(np.tile(values, 7)), np.repeat(np.arange(7) // 2, 9), np.tile(np.arange(9), 7))
    assert often.variance == pytest.approx(once.variance)
    assert t_limits(0.0, often, 0.9)[1] >= t_limits(0.0, once, 0.9)[1] * 0.999


def test_independent_trials_give_close_to_exact_binomial_limits():
    hits = (np.arange(40) < 12).astype(float)
    found = share_limits(0.3, spread(mean_influence(hits), np.zeros(40, int), np.arange(40)), 40, 0.95)
    assert binom.cdf(12, 40, found.high) == pytest.approx(0.025, rel=0.15)
    assert binom.sf(11, 40, found.low) == pytest.approx(0.025, rel=0.15)


def test_trials_that_say_the_same_count_once():
    """12 of 40 classes found, each by all of its 5 guesses: no more than 40 trials."""
    hits = np.repeat((np.arange(40) < 12).astype(float), 5)
    classes, none = np.repeat(np.arange(40), 5), np.zeros(200, int)
    once = share_limits(0.3, spread(mean_influence(hits[::5]), none[::5], classes[::5]), 40, 0.95)
    often = share_limits(0.3, spread(mean_influence(hits), none, classes), 200, 0.95)
    assert often == pytest.approx(once, abs=0.02)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_certainty_is_bounded_by_the_number_of_clusters(share):
    values = np.full(30, share)
    found = share_limits(share, spread(mean_influence(values), np.zeros(30, int), np.repeat(np.arange(6), 5)), 30, 0.95)
    edge = 1 - 0.025 ** (1 / 6)
    assert found == pytest.approx((0, edge) if share == 0 else (1 - edge, 1))


def test_the_jackknife_of_a_mean_gives_the_ordinary_t_interval():
    from scipy.stats import t

    values = 9 + np.random.default_rng(0).normal(size=7)
    rest = (values.sum() - values) / 6
    found = _jackknifed(Finding(name="fid", value=values.mean(), low=None, high=None), values.mean(), rest)
    exact = t.interval(found.confidence, 6, values.mean(), values.std(ddof=1) / np.sqrt(7))
    assert (found.low, found.high) == pytest.approx(exact)
