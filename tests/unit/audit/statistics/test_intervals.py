"""Closed-form intervals against known values, and at the edges where variance vanishes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from sfumato.audit import statistics as stats
from sfumato.errors import UsageError


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 17), (10, 10), (450, 1000)])
def test_clopper_pearson_agrees_with_scipy(k, n):
    expected = binomtest(k, n).proportion_ci(0.9, "exact")
    found = stats.clopper_pearson(k, n, 0.9)
    assert (float(found.low), float(found.high)) == pytest.approx((expected.low, expected.high))
    assert stats.clopper_pearson_upper(k, n, 0.05) == pytest.approx(expected.high)
    assert stats.clopper_pearson_lower(k, n, 0.05) == pytest.approx(expected.low)


@pytest.mark.parametrize(("k", "n"), [(5, 4), (-1, 4), (0, 0)])
def test_counts_that_are_not_counts_are_refused(k, n):
    with pytest.raises(UsageError, match="successes"):
        stats.clopper_pearson(k, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_confidence_is_a_share(confidence):
    with pytest.raises(UsageError, match="confidence"):
        stats.clopper_pearson(1, 2, confidence)


def test_a_perfect_auc_is_not_certain():
    found = stats.delong(np.arange(10, 20), np.arange(10))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025**0.1)


def test_mean_interval_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=12)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    found = stats.mean_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.standard_deviation == pytest.approx(values.std(ddof=1))
    shifted = stats.paired_difference(values + 1, values)
    assert shifted[:3] == pytest.approx((1, 1, 1))


def test_one_value_has_no_interval():
    with pytest.raises(UsageError, match="at least 2"):
        stats.mean_interval([1.0])
    with pytest.raises(UsageError, match="one length"):
        stats.paired_difference([1.0, 2.0], [1.0])
