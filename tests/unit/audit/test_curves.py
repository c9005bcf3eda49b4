import numpy as np
import pytest

from sfumato.audit.curves import (
    Reading,
    Replicated,
    StrengthPoint,
    corners_at,
    difference_of,
    difference_of_readings,
    leakage_at,
    line_of,
    reading_at,
    split_name,
)
from sfumato.audit.measured import Finding


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("relaxloss@0.5", ("relaxloss", "0.5")),
        ("pptp@crl@2", ("pptp@crl", "2")),
        ("undefended", None),
        ("@0.5", None),
        ("mixup@", None),
    ],
)
def test_names(name, parts):
    assert split_name(name) == parts


POINTS = line_of(np.array([0.90, 0.80, 0.84]), np.array([0.30, 0.02, 0.10]))


@pytest.mark.parametrize(
    ("accuracy", "leakage"),
    [(0.80, 0.02), (0.82, 0.06), (0.84, 0.10), (0.85, 0.10 + 0.20 / 6), (0.87, 0.20), (0.90, 0.30)],
)
def test_lines_between_neighbours_in_accuracy(accuracy, leakage):
    assert leakage_at(POINTS, accuracy) == pytest.approx(leakage)


@pytest.mark.parametrize("accuracy", [0.79, 0.91])
def test_a_curve_is_not_read_beyond_its_ends(accuracy):
    assert np.isnan(leakage_at(POINTS, accuracy))


def test_points_of_equal_accuracy_are_joined_and_a_single_point_is_a_curve():
    joined = line_of(np.array([0.9, 0.8, 0.9]), np.array([0.3, 0.1, 0.5]))
    assert joined.accuracy.tolist() == [0.8, 0.9]
    assert joined.leakage == pytest.approx([0.1, 0.4])
    assert leakage_at(line_of(np.array([0.8]), np.array([0.1])), 0.8) == pytest.approx(0.1)


def curve(accuracy, leakage, spread=0.0, seed=0, members=100_000):
    """A curve whose replicates scatter about the sample."""
    rng = np.random.default_rng(seed)
    accuracy, leakage = np.asarray(accuracy, dtype=float), np.asarray(leakage, dtype=float)
    rows = [np.vstack([v, v + spread * rng.normal(size=(400, len(v)))]) for v in (accuracy, leakage)]
    return Replicated(*rows, members=members)


def test_the_difference_is_read_in_the_middle_of_what_both_reach():
    first = curve([0.80, 0.90], [0.10, 0.30])
    second = curve([0.84, 0.94], [0.04, 0.14])
    found = difference_of(first, second, 0.95)
    assert found.accuracy == pytest.approx(0.87)  # both reach 0.84 to 0.90
    assert found.difference.value == pytest.approx((0.10 + 0.20 * 0.7) - (0.04 + 0.10 * 0.3))
    assert found.difference.low > 0


def test_curves_without_a_common_accuracy_are_not_compared():
    assert difference_of(curve([0.8, 0.85], [0.1, 0.2]), curve([0.9, 0.95], [0.1, 0.2]), 0.95) is None
    assert reading_at(curve([0.8, 0.85], [0.1, 0.2]), 0.86, 0.95) is None


def test_the_null_two_curves_of_one_method_differ_by_nothing():
    one = curve([0.8, 0.9], [0.1, 0.3], spread=0.01)
    found = difference_of(one, one, 0.95).difference
    assert found.value == 0
    assert found.low < 0 < found.high  # no two trainings are the same: the exact part of the interval remains
    other = curve([0.8, 0.9], [0.1, 0.3], spread=0.01, seed=1)
    apart = difference_of(one, other, 0.95).difference
    assert apart.low < 0 < apart.high


def test_joint_draws_make_a_narrower_interval_than_separate_ones():
    shared = np.random.default_rng(0).normal(0, 0.02, 400)
    leakage = np.vstack([[0.1, 0.3], np.array([0.1, 0.3]) + shared[:, None]])
    accuracy = np.tile([0.8, 0.9], (401, 1))
    first = Replicated(accuracy, leakage, 100_000)
    second = Replicated(accuracy, leakage - 0.05, 100_000)
    shuffled = Replicated(accuracy, np.vstack([leakage[:1], leakage[:0:-1]]) - 0.05, 100_000)
    joint, apart = (difference_of(first, other, 0.95).difference for other in (second, shuffled))
    assert joint.high - joint.low < (apart.high - apart.low) / 2
    assert joint.value == pytest.approx(0.05)


def test_replicates_that_are_all_zero_leave_the_exact_interval():
    found = reading_at(curve([0.8, 0.9], [0.0, 0.0], members=100), 0.85, 0.95)
    assert found.value == found.low == 0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 100), abs=1e-6)


def test_replicates_that_do_not_get_there_count_with_their_end():
    one = Replicated(np.array([[0.8, 0.9], [0.7, 0.84]]), np.array([[0.1, 0.3], [0.2, 0.4]]), 10)
    assert one.held(np.array([0.85, 0.85])) == pytest.approx([0.2, 0.4])


def point(accuracy, leakage, half=0.01, spread=0.02):
    def finding(name, value, width, at=None):
        return Finding(name=name, value=value, low=value - width, high=value + width, at=at)

    return StrengthPoint(
        subject="a@1", strength="1", attack="lira", accuracy=finding("accuracy", accuracy, half),
        leakage=[finding("tpr_at_fpr", leakage, spread, 0.01)],
    )  # fmt: skip


def test_without_scores_the_interval_holds_all_points_that_may_be_near():
    points = [point(0.80, 0.1), point(0.85, 0.2), point(0.90, 0.4)]
    found = corners_at(points, "tpr_at_fpr", 0.01, 0.82)
    assert found.value == pytest.approx(0.1 + 0.1 * 0.4)
    assert (found.low, found.high) == pytest.approx((0.08, 0.22))
    near = corners_at(points, "tpr_at_fpr", 0.01, 0.845)  # the middle point may lie on either side
    assert (near.low, near.high) == pytest.approx((0.08, 0.42))
    assert corners_at(points, "tpr_at_fpr", 0.01, 0.95) is None


def test_such_intervals_are_subtracted_end_against_end():
    found = difference_of_readings(Reading(0.3, 0.2, 0.4), Reading(0.1, 0.05, 0.2))
    assert tuple(found) == pytest.approx((0.2, 0.0, 0.35))
