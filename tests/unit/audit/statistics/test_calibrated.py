import numpy as np
import pytest

from sfumato.audit.statistics import calibrated_tpr, crossed_game
from sfumato.audit.statistics.calibrated import own_ranks, resolved_per_unit
from sfumato.data.membership import Membership
from sfumato.errors import UsageError


def slow_p(scores, members, target, unit):
    """The p-value from its definition, one loop."""
    higher = count = 0
    for other in range(len(scores)):
        if other != target and not members[other, unit]:
            count += 1
            higher += scores[other, unit] >= scores[target, unit]
    return (1 + higher) / (1 + count)


def halves(models, units, seed):
    return Membership.half_pairs(units, models, np.random.default_rng(seed)).matrix


def test_p_values_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    members = halves(8, 12, 0)
    scores = rng.integers(0, 4, (8, 12)).astype(float)  # many ties
    found = own_ranks(crossed_game(scores, members))
    expected = [[slow_p(scores, members, t, u) for u in range(12)] for t in range(8)]
    np.testing.assert_allclose(found.p, expected)
    assert found.fewest_out == 4


def test_ties_count_against_the_attack():
    members = halves(8, 10, 1)
    found = calibrated_tpr(np.zeros((8, 10)), members, fprs=(0.5,), replicates=5, rng=np.random.default_rng(0))
    assert found[0].value == 0.0


def test_a_unit_with_high_scores_in_and_out_spends_no_one_elses_false_positives():
    """Pooled, the loud units take all the false positives; each by itself, every unit is found or not on its own."""
    members = halves(40, 20, 2)
    rng = np.random.default_rng(3)
    loud = np.where(np.arange(20) < 4, 50.0, 0.0)
    scores = rng.normal(size=(40, 20)) + loud + np.where(members & (loud == 0), 10.0, 0.0)
    own = calibrated_tpr(scores, members, fprs=(0.1,), replicates=40, rng=rng)[0]
    assert own.value == pytest.approx(0.8 + 0.2 * 2 / 21, abs=0.02)
    negatives = np.sort(scores[~members])[::-1]
    pooled = (scores[members] > negatives[int(0.1 * negatives.size)]).mean()
    assert pooled < 0.2
    assert own.low < own.value < own.high
    assert own.low > 0.5  # units are clusters: 4 of 20 are never found


def test_few_models_cannot_resolve_a_rate_of_one_unit():
    members = halves(8, 30, 0)
    some, none = calibrated_tpr(
        np.random.default_rng(0).normal(size=(8, 30)), members, fprs=(0.2, 0.1), replicates=5,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert some.resolvable
    assert "its own 4 OUT models" in some.note
    assert not none.resolvable
    assert none.value is None
    assert "needs at least 9 models without it, there are 4" in none.note
    assert resolved_per_unit(0.1, 9)
    assert not resolved_per_unit(0.1, 8)
    assert not resolved_per_unit(0.0, 10**6)


def test_units_outside_the_game_are_not_ranked():
    members = halves(8, 10, 0)
    scores = np.random.default_rng(1).normal(size=(8, 10))
    scores[:, 3] = np.nan
    inside = np.arange(10) != 3
    left = calibrated_tpr(scores, members, inside, fprs=(0.5,), replicates=5, rng=np.random.default_rng(0))[0]
    right = calibrated_tpr(
        scores[:, inside], members[:, inside], fprs=(0.5,), replicates=5, rng=np.random.default_rng(0)
    )[0]
    assert left.value == right.value
    assert left.n_members == right.n_members


def test_a_rate_outside_the_unit_interval_is_refused():
    with pytest.raises(UsageError, match="fprs"):
        calibrated_tpr(np.zeros((2, 2)), np.eye(2, dtype=bool), fprs=(1.5,), rng=np.random.default_rng(0))
