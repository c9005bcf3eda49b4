import numpy as np
import pytest
from scipy.stats import beta

from sfumato.audit.utility import per_model, utility


def case(models, n=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(models, n, classes)), rng.integers(0, classes, n), rng.random((models, n)) < 0.5


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_each_model_is_measured_outside_its_own_training_set():
    logits, labels, members = case(5)
    found = by_name(utility(logits, labels, members, 0.95))
    hits = logits.argmax(axis=2) == labels
    outside = [hits[m][~members[m]].mean() for m in range(5)]
    inside = [hits[m][members[m]].mean() for m in range(5)]
    assert found["accuracy"].value == pytest.approx(np.mean(outside))
    assert found["training-accuracy"].value == pytest.approx(np.mean(inside))
    assert found["generalisation-gap"].value == pytest.approx(np.mean(inside) - np.mean(outside))
    reach = 2.776445 * np.std(outside, ddof=1) / np.sqrt(5)
    assert found["accuracy"].high - found["accuracy"].value == pytest.approx(reach, rel=1e-5)
    assert found["accuracy"].n_members == members.sum()


def test_one_model_has_an_interval_over_records_where_there_is_one():
    logits, labels, members = case(1)
    found = by_name(utility(logits, labels, members, 0.9))
    hits = (logits[0].argmax(axis=1) == labels)[~members[0]]
    k, n = hits.sum(), len(hits)
    accuracy = found["accuracy"]
    assert accuracy.low == pytest.approx(beta.ppf(0.05, k, n - k + 1))
    assert accuracy.high == pytest.approx(beta.ppf(0.95, k + 1, n - k))
    assert "one model" in accuracy.method
    assert (found["auroc"].low, found["auroc"].high) == (None, None)
    assert found.keys() == by_name(utility(*case(3), 0.9)).keys()
    assert found["generalisation-gap"].value == pytest.approx(found["training-accuracy"].value - accuracy.value)


@pytest.mark.parametrize("models", [1, 3])
def test_without_records_outside_nothing_is_said(models):
    logits, labels, _ = case(models)
    found = by_name(utility(logits, labels, np.ones((models, 40), dtype=bool), 0.95))
    assert found["accuracy"].value is None
    assert not found["accuracy"].resolvable
    assert found["training-accuracy"].value is not None


def test_an_undefined_metric_is_nan_per_model():
    logits, _, _ = case(2)
    one_class = np.zeros(40, dtype=np.int64)
    assert np.isnan(per_model("auroc", logits, one_class, np.ones((2, 40), dtype=bool))).all()
