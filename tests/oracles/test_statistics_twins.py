"""Slow loop versions of the statistics, compared with the fast ones on small games full of ties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.audit import statistics as stats

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


def naive_auc(members, nonmembers):
    won = sum((a > b) + 0.5 * (a == b) for a in members for b in nonmembers)
    return won / (len(members) * len(nonmembers))


def naive_points(members, nonmembers):
    """Every reachable (fpr, tpr): one for each threshold at a score, and one above all."""
    thresholds = [*sorted({*members, *nonmembers}, reverse=True)]
    points = [(0.0, 0.0)]
    for t in thresholds:
        points.append((sum(b >= t for b in nonmembers) / len(nonmembers),
                       sum(a >= t for a in members) / len(members)))  # fmt: skip
    return points


@given(scores, scores)
@settings(max_examples=60, deadline=None)
def test_auc_counts_pairs(members, nonmembers):
    assert stats.auc(members, nonmembers) == pytest.approx(naive_auc(members, nonmembers))


@given(scores, scores, st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_rates_are_the_best_reachable(members, nonmembers, rate):
    points = naive_points(members, nonmembers)
    best_tpr = max(t for f, t in points if f <= rate + 1e-9)
    best_tnr = max(1 - f for f, t in points if 1 - t <= rate + 1e-9)
    assert stats.tpr_at_fpr(members, nonmembers, rate) == pytest.approx(best_tpr)
    assert stats.tnr_at_fnr(members, nonmembers, rate) == pytest.approx(best_tnr)
    assert stats.advantage(members, nonmembers) == pytest.approx(max(t - f for f, t in points))


@given(scores, scores)
@settings(max_examples=40, deadline=None)
def test_roc_lists_each_threshold_once(members, nonmembers):
    curve = stats.roc(members, nonmembers)
    np.testing.assert_allclose(np.stack([curve.fpr, curve.tpr], 1), naive_points(members, nonmembers))


@pytest.mark.parametrize("seed", range(5))
def test_weighted_roc_equals_a_game_with_rows_and_columns_repeated(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (4, 7)).astype(float)
    members, played = rng.random((4, 7)) < 0.5, rng.random((4, 7)) < 0.8
    row_draws, column_draws = rng.multinomial(4, [0.25] * 4), rng.multinomial(7, [1 / 7] * 7)
    inside, outside = [], []
    for t, u in itertools.product(range(4), range(7)):
        if played[t, u]:
            (inside if members[t, u] else outside).extend([values[t, u]] * (row_draws[t] * column_draws[u]))
    if not inside or not outside:
        pytest.skip("the replicate drew one class only")
    game = stats.sort_game(stats.crossed_game(values, members, played))
    curve = game.weighted_roc(row_draws.astype(float), column_draws.astype(float))
    rates = np.array([0.05, 0.2, 0.5])
    assert curve.members == len(inside)
    assert curve.nonmembers == len(outside)
    assert stats.weighted_auc(curve) == pytest.approx(naive_auc(inside, outside))
    points = naive_points(inside, outside)
    assert stats.weighted_tpr_at_fpr(curve, rates) == pytest.approx(
        [max(t for f, t in points if f <= r + 1e-9) for r in rates]
    )
    assert stats.weighted_tnr_at_fnr(curve, rates) == pytest.approx(
        [max(1 - f for f, t in points if 1 - t <= r + 1e-9) for r in rates]
    )


def test_fixed_threshold_replicates_equal_a_loop():
    rng = np.random.default_rng(3)
    values, members = rng.normal(size=(5, 9)), rng.random((5, 9)) < 0.5
    game, draws = stats.crossed_game(values, members), stats.draw_resamples(5, 9, 4, rng)
    called = values > 0.2
    fast = stats.replicated_rates(game, called, draws)
    for r in range(4):
        weight = np.outer(draws.targets[r], draws.units[r])
        assert fast.tpr[r] == pytest.approx((weight * (members & called)).sum() / (weight * members).sum())
        assert fast.fpr[r] == pytest.approx((weight * (~members & called)).sum() / (weight * ~members).sum())


def test_auc_influence_is_the_derivative_with_respect_to_the_weight_of_a_score():
    rng = np.random.default_rng(1)
    values, members = rng.normal(size=(3, 6)), rng.random((3, 6)) < 0.5
    influence = stats.auc_influence(stats.crossed_game(values, members))

    def weighted(weights):
        pairs = [(a, b) for a in np.argwhere(members) for b in np.argwhere(~members)]
        mass = [weights[tuple(a)] * weights[tuple(b)] for a, b in pairs]
        won = [float(values[tuple(a)] > values[tuple(b)]) for a, b in pairs]
        return np.dot(mass, won) / np.sum(mass)

    step = 1e-6
    for cell in np.ndindex(3, 6):
        nudged = np.ones((3, 6))
        nudged[cell] += step
        assert influence[cell] == pytest.approx((weighted(nudged) - weighted(np.ones((3, 6)))) / step, abs=1e-5)


def test_unit_vulnerability_equals_a_loop_over_units():
    rng = np.random.default_rng(2)
    values, members, played = rng.integers(0, 4, (9, 6)) * 1.0, rng.random((9, 6)) < 0.5, rng.random((9, 6)) < 0.8
    values[~played] = np.nan
    found = stats.unit_vulnerability(values, members, played)
    for u in range(6):
        inside, outside = values[played[:, u] & members[:, u], u], values[played[:, u] & ~members[:, u], u]
        if len(inside) and len(outside):
            assert found.auc[u] == pytest.approx(naive_auc(inside, outside))
        if len(inside) > 1 and len(outside) > 1:
            d = abs(inside.mean() - outside.mean()) / (inside.std(ddof=1) + outside.std(ddof=1))
            assert found.separation[u] == pytest.approx(d)


@given(st.integers(0, 1000), st.sampled_from(["mean", "sum", "max", "median"]))
@settings(max_examples=40, deadline=None)
def test_combining_records_equals_a_loop(seed, rule):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.r_[np.arange(4), rng.integers(0, 4, 9)])
    values = rng.normal(size=(2, 3, 13))
    slow = getattr(np, rule)
    expected = np.stack([slow(values[..., codes == u], axis=-1) for u in range(4)], axis=-1)
    np.testing.assert_allclose(stats.combine(values, codes, rule), expected)


def test_delong_variance_equals_the_double_sum():
    rng = np.random.default_rng(0)
    members, nonmembers = rng.integers(0, 6, 15) * 1.0, rng.integers(0, 5, 11) * 1.0
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in nonmembers] for a in members])
    variance = wins.mean(1).var(ddof=1) / 15 + wins.mean(0).var(ddof=1) / 11
    found = stats.delong(members, nonmembers)
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    assert found.value == pytest.approx(wins.mean())
