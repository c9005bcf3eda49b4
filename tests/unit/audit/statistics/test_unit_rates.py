import numpy as np
import pytest
from scipy.stats import beta

from sfumato.audit.statistics import unit_rates, worst_unit


def test_rates_are_shares_of_the_models_with_the_unit_above_one_threshold():
    members = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1]], dtype=bool)
    scores = np.array([[9.0, 1.0, 2.0], [8.0, 3.0, 1.0], [0.0, 7.0, 5.0], [4.0, 0.0, 9.0]])
    found = unit_rates(scores, members, fpr=1 / 6)  # OUT: 2, 3, 0, 5, 4, 0: one false positive is allowed
    assert found.threshold == 4.0
    np.testing.assert_array_equal(found.found, [2, 1, 1])
    np.testing.assert_array_equal(found.trials, [2, 2, 2])
    np.testing.assert_allclose(found.rates, [1.0, 0.5, 0.5])
    outside = (scores > found.threshold) & ~members
    assert outside.sum() == 1
    np.testing.assert_array_equal(found.false, [0, 0, 1])
    np.testing.assert_array_equal(found.others, [2, 2, 2])


def test_a_unit_that_no_model_had_has_no_rate():
    members = np.array([[1, 0], [0, 0]], dtype=bool)
    found = unit_rates(np.array([[1.0, 0.0], [0.0, 0.0]]), members, fpr=0.0)
    np.testing.assert_array_equal(np.isnan(found.rates), [False, True])
    assert found.found[0] == 1


def test_ties_with_the_threshold_are_not_called():
    members = np.array([[1, 0], [0, 1]], dtype=bool)
    assert unit_rates(np.zeros((2, 2)), members, fpr=0.4).found.sum() == 0


def test_the_worst_unit_shares_the_level_with_all_others():
    members = np.zeros((8, 5), dtype=bool)
    members[:4] = True
    scores = np.where(members, 0.0, 1.0)
    scores[:4, 2] = 2.0
    ends = worst_unit(unit_rates(scores, members, fpr=0.0), 0.95)
    assert float(ends.low) == pytest.approx(beta.ppf(0.05 / 5 / 2, 4, 1))
    assert float(ends.high) == 1.0
