import math

import numpy as np
import pytest

from sfumato.errors import NotApplicable, UsageError
from sfumato.training.metrics import METRICS, metric

LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.5, 0.0]])
LABELS = np.array([0, 1, 1, 0])


def test_accuracy_and_balanced_accuracy():
    logits = np.eye(3)[[0, 0, 0, 0, 1, 2]]
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert metric("accuracy")(logits, labels) == pytest.approx(5 / 6)
    assert metric("balanced-accuracy")(logits, labels) == pytest.approx((1 + 1 / 2) / 2)


def test_auroc_of_two_classes_counts_pairs():
    # differences of class 1: -2, 1, -3, -0.5; class-1 records have 1 and -3: 2 of 4 pairs are in order
    assert metric("auroc")(LOGITS, LABELS) == pytest.approx(0.5)
    assert metric("auroc")(np.zeros((4, 2)), LABELS) == 0.5


def test_auroc_ranks_saturated_probabilities_by_their_logits():
    assert metric("auroc")(np.array([[0.0, 800.0], [0.0, 900.0]]), np.array([0, 1])) == 1.0
    logits = np.array([[0.0, 800.0, 0.0], [0.0, 900.0, 0.0], [900.0, 0.0, 0.0], [0.0, 0.0, 900.0]])
    assert metric("auroc")(logits, np.array([0, 1, 0, 2])) == 1.0


def test_auroc_of_several_classes_is_perfect_for_perfect_answers_and_half_for_equal_ones():
    labels = np.array([0, 1, 2, 2])
    assert metric("auroc")(5 * np.eye(3)[labels], labels) == 1.0
    assert metric("auroc")(np.zeros((4, 3)), labels) == 0.5


def test_auroc_without_a_class_is_refused_by_name():
    with pytest.raises(NotApplicable, match="class 1, 2"):
        metric("auroc")(np.zeros((4, 3)), np.zeros(4, dtype=int))


def test_calibration_error_of_confident_and_of_honest_answers():
    certain = 100 * np.eye(2)[[0, 0, 0, 0]]
    assert metric("calibration-error")(certain, np.array([0, 0, 0, 1])) == pytest.approx(0.25)
    honest = np.log([[0.75, 0.25]] * 4)
    assert metric("calibration-error")(honest, np.array([0, 0, 0, 1])) == pytest.approx(0.0, abs=1e-12)


def test_calibration_error_does_not_cancel_between_bins():
    logits = np.log([[0.6, 0.4], [0.9, 0.1]])
    # right at 0.6 and wrong at 0.9: gaps +0.4 and -0.9 in different bins
    assert metric("calibration-error")(logits, np.array([0, 1])) == pytest.approx((0.4 + 0.9) / 2)


def test_calibration_bins_include_their_upper_edge():
    logits = np.array([[0.0] * 5, np.log([0.25, 0.1875, 0.1875, 0.1875, 0.1875])])
    # right at exactly 3/15, in (2/15, 3/15], and wrong at 0.25, in (3/15, 4/15]
    assert metric("calibration-error")(logits, np.array([0, 1])) == pytest.approx((0.8 + 0.25) / 2)


def test_log_loss():
    assert metric("log-loss")(np.zeros((3, 4)), np.array([0, 1, 2])) == pytest.approx(math.log(4))
    assert metric("log-loss")(np.array([[2000.0, 0.0]]), np.array([1])) == pytest.approx(2000)


def test_directions():
    better_when_low = {known.name for known in METRICS if not known.higher_is_better}
    assert better_when_low == {"calibration-error", "log-loss"}


def test_unknown_metrics_are_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean 'accuracy'"):
        metric("acuracy")


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((4, 1)), LABELS, "two classes"),
        (np.zeros(4), LABELS, "two classes"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "two classes"),
        (np.zeros((3, 2)), LABELS, "one length"),
        (np.full((4, 2), np.nan), LABELS, "finite"),
        (LOGITS, np.array([0, 1, 2, 0]), "0 to 1, got 0 to 2"),
        (LOGITS, np.array([-1, 1, 1, 0]), "got -1"),
        (LOGITS, LABELS.astype(float), "whole-number"),
    ],
)
@pytest.mark.parametrize("name", [known.name for known in METRICS])
def test_bad_input_is_refused_by_every_metric(name, logits, labels, message):
    with pytest.raises(UsageError, match=message):
        metric(name)(logits, labels)
