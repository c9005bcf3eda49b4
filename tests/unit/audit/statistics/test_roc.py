"""The step ROC: ties, targets, thinning, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from sfumato.audit import statistics as stats
from sfumato.errors import UsageError


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_auc_agrees_with_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    members, scores = rng.random(500) < 0.4, np.round(rng.normal(size=500), decimals)
    assert stats.auc(*stats.by_membership(scores, members)) == pytest.approx(roc_auc_score(members, scores))


def test_gaussian_scores_give_the_closed_forms():
    """Scores at the quantiles of N(d, 1) and N(0, 1): AUC = Phi(d / sqrt 2), TPR(f) = Phi(Phi^-1(f) + d)."""
    grid, d = (np.arange(20_000) + 0.5) / 20_000, 1.3
    members, nonmembers = norm.ppf(grid) + d, norm.ppf(grid)
    assert stats.auc(members, nonmembers) == pytest.approx(norm.cdf(d / np.sqrt(2)), abs=1e-4)
    for fpr in (0.1, 0.01, 0.001):
        assert stats.tpr_at_fpr(members, nonmembers, fpr) == pytest.approx(norm.cdf(norm.ppf(fpr) + d), abs=2e-3)
        assert stats.tnr_at_fnr(members, nonmembers, fpr) == pytest.approx(norm.cdf(norm.ppf(fpr) + d), abs=2e-3)
    best = 2 * norm.cdf(d / 2) - 1
    assert stats.advantage(members, nonmembers) == pytest.approx(best, abs=1e-3)
    assert stats.balanced_accuracy(members, nonmembers) == pytest.approx((1 + best) / 2, abs=1e-3)
    assert stats.best_threshold(members, nonmembers) == pytest.approx(d / 2, abs=0.02)
    assert stats.advantage(members, nonmembers, threshold=d) == pytest.approx(0.5 - norm.sf(d), abs=1e-3)


def test_a_tie_is_one_threshold_and_is_never_interpolated():
    members, nonmembers = [2, 1, 1, 1], [1, 0, 0, 0]
    assert stats.tpr_at_fpr(members, nonmembers, 0.24) == 0.25
    assert stats.tpr_at_fpr(members, nonmembers, 0.25) == 1.0
    assert stats.roc(members, nonmembers).thresholds.tolist() == [np.inf, 2, 1, 0]
    assert stats.auc([1, 1], [1, 1]) == 0.5


def test_a_rate_that_is_a_count_is_not_lost_to_rounding():
    nonmembers = np.arange(100.0)
    for k in range(101):
        # Members sit just above each nonmember, so the TPR tells how many false positives were allowed.
        expected = min(k + 1, 100) / 100
        assert stats.tpr_at_fpr(nonmembers + 0.5, nonmembers, k / 100) == pytest.approx(expected)


@pytest.mark.parametrize(("fpr", "needed"), [(0.1, 100), (1e-3, 10_000), (1e-5, 1_000_000), (0.3, 34)])
def test_resolvable_needs_ten_expected_false_positives(fpr, needed):
    assert stats.negatives_needed(fpr) == needed
    assert stats.resolvable(fpr, needed)
    assert not stats.resolvable(fpr, needed - 1)
    assert not stats.resolvable(0.0, 10**9)


def test_ppv_depends_on_the_prior():
    assert stats.ppv(0.5, 0.01, 0.5) == pytest.approx(0.5 / 0.51)
    assert stats.ppv(0.5, 0.01, 0.01) == pytest.approx(0.005 / (0.005 + 0.0099))
    assert np.isnan(stats.ppv(0.0, 0.0, 0.5))


def test_thinning_keeps_the_low_corner_whole_and_moves_nothing():
    rng = np.random.default_rng(0)
    curve = stats.roc(rng.normal(1, 1, 20_000), rng.normal(0, 1, 20_000))
    thinned = stats.thin(curve, 200)
    assert thinned.fpr.size <= 200
    kept = np.isin(curve.thresholds, thinned.thresholds)
    np.testing.assert_array_equal(curve.tpr[kept], thinned.tpr)
    assert (thinned.fpr[0], thinned.tpr[-1]) == (0, 1)
    low, high = np.unique(curve.fpr[curve.fpr <= 1e-3]), np.geomspace(1e-3, 1, 50)
    np.testing.assert_array_equal(_step(thinned, low), _step(curve, low))
    assert np.max(np.abs(_step(thinned, high) - _step(curve, high))) < 0.03
    assert stats.thin(stats.roc([1, 2], [0, 1.5]), 10).fpr.tolist() == [0, 0, 0.5, 0.5, 1]


def _step(curve, fprs):
    return curve.tpr[np.searchsorted(curve.fpr, fprs, "right") - 1]


@pytest.mark.parametrize(
    ("members", "nonmembers", "message"),
    [([], [1.0], "at least one score"), ([1.0], [], "at least one score"), ([np.nan], [1.0], "without NaN")],
)
@pytest.mark.parametrize("metric", [stats.roc, stats.auc, stats.advantage, stats.delong])
def test_scores_that_cannot_be_judged_are_refused(metric, members, nonmembers, message):
    with pytest.raises(UsageError, match=message):
        metric(members, nonmembers)


def test_infinite_scores_are_ordered():
    assert stats.auc([np.inf, 1], [-np.inf, 0]) == 1.0


def test_membership_must_be_boolean_and_of_the_shape_of_the_scores():
    with pytest.raises(UsageError, match="booleans of shape"):
        stats.by_membership([1.0, 2.0], [1, 0])
    with pytest.raises(UsageError, match="members' scores"):
        stats.by_membership([1.0, 2.0], [False, False])
    played = stats.by_membership([1.0, 2.0, np.nan], np.array([True, False, True]), np.array([True, True, False]))
    assert (played.members.tolist(), played.nonmembers.tolist()) == ([1.0], [2.0])
