import numpy as np
import pytest

from sfumato.audit.paired import aucs, difference_of_scores, paired, rates_at, resolved
from sfumato.audit.statistics import roc


@pytest.fixture
def two():
    """Scores of two recipes [8, 200] on one design; the second leaks more."""
    rng = np.random.default_rng(0)
    half = rng.random((4, 200)) < 0.5
    members = np.stack([half, ~half], axis=1).reshape(8, 200)
    noise = rng.normal(size=(2, 8, 200))
    return noise[0] + 0.5 * members, noise[1] + 2.0 * members, members


EVERYONE = np.ones(200, dtype=bool)


def test_the_difference_is_the_mean_over_targets_of_each_ones_own_value(two):
    little, much, members = two
    for measure in (aucs, rates_at(0.1)):
        found = difference_of_scores(much, little, members, EVERYONE, measure, "auc", 0.95)
        expected = (measure(much, members, EVERYONE) - measure(little, members, EVERYONE)).mean()
        assert found.value == pytest.approx(expected)
        assert 0 < found.low < found.value < found.high


def test_measures_by_hand(two):
    scores, _, members = two
    played = np.arange(200) < 150
    inside, outside = scores[0][members[0] & played], scores[0][~members[0] & played]
    assert aucs(scores, members, played)[0] == pytest.approx((inside[:, None] > outside).mean())
    curve = roc(inside, outside)
    assert rates_at(0.1)(scores, members, played)[0] == max(curve.tpr[curve.fpr <= 0.1 + 1e-12])


def test_swapping_the_recipes_changes_the_sign(two):
    little, much, members = two
    one = difference_of_scores(much, little, members, EVERYONE, aucs, "auc", 0.9)
    back = difference_of_scores(little, much, members, EVERYONE, aucs, "auc", 0.9)
    assert (back.value, back.low, back.high) == pytest.approx((-one.value, -one.high, -one.low))


def test_an_error_that_all_targets_share_at_a_unit_widens_the_interval(two):
    """As chance errors of shared references do: pairs agree with one another, so only units can show it."""
    little, _, members = two
    sign = np.where(members, 1, -1)
    own = np.random.default_rng(1).normal(size=(8, 200))
    shared = np.repeat(np.random.default_rng(2).normal(size=(1, 200)) * 3, 8, axis=0)
    alone = difference_of_scores(little + own, little, members, EVERYONE, aucs, "auc", 0.95)
    together = difference_of_scores(little + sign * shared, little, members, EVERYONE, aucs, "auc", 0.95)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_equal_scores_have_no_difference(two):
    little, _, members = two
    found = difference_of_scores(little, little, members, EVERYONE, aucs, "auc", 0.95)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_few_targets_or_units_are_not_resolved(two):
    little, much, members = two
    for scores in ((much[:2], little[:2], members[:2], EVERYONE), (much, little, members, np.arange(200) < 8)):
        found = difference_of_scores(*scores, aucs, "auc", 0.95)
        assert found.value is None
        assert not found.resolvable


def test_a_rate_is_resolved_by_every_target_or_not_at_all(two):
    members = two[2].copy()
    members[:, :] = np.arange(200) < 50
    assert resolved(members, EVERYONE, 0.1)
    members[0] = np.arange(200) < 150
    assert not resolved(members, EVERYONE, 0.1 + 1e-9) or (~members[0]).sum() >= 100
    assert not resolved(members, EVERYONE, 0.1)


def test_paired_counts_complementary_pairs_once():
    values = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 6.0, 6.0])
    doubled = paired(values, np.zeros(8), "auc", 0.95)
    half = np.array([1.0, 2.0, 3.0, 6.0])
    reach = 3.182446 * half.std(ddof=1) / 2  # Student's t with 3 degrees of freedom, not 7
    assert doubled.value == pytest.approx(3.0)
    assert doubled.high == pytest.approx(3.0 + reach, rel=1e-6)
    assert doubled.low == pytest.approx(3.0 - reach, rel=1e-6)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, np.nan, 1.0, 2.0]])
def test_paired_without_enough_targets_is_not_resolved(values):
    found = paired(np.array(values), np.zeros(len(values)), "auc", 0.95)
    assert not found.resolvable
    assert found.value is None
    assert "4 models" in found.note
