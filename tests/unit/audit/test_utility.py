from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.settings import AuditSettings
from sfumato.audit.utility import honest, per_model, usefulness, utility, utility_of_draws
from sfumato.data.owners import planted_rows, with_owners
from sfumato.data.population import Population, Unit
from sfumato.targets.answers import Answers


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


def test_intervals_of_few_models_stay_within_the_range_of_each_metric():
    labels = np.arange(60) % 3
    logits = np.stack([5.0 * np.eye(3)[labels]] * 2)
    logits[1, :30] = -logits[1, :30]  # one model right on all, one on half of them: the t interval reaches far out
    members = np.stack([np.arange(60) % 2 == 0] * 2)
    found = by_name(utility(logits, labels, members, 0.95))
    for name in ("accuracy", "balanced-accuracy", "auroc", "training-accuracy"):
        assert (found[name].low, found[name].high) == (0.0, 1.0), name
    assert found["log-loss"].low == 0.0
    assert found["log-loss"].high > 1.0
    logits[1] = -logits[0] + 2 * logits[0] * members[1][:, None]  # the other right on members, and on them alone
    gap = by_name(utility(logits, labels, members, 0.95))["generalisation-gap"]
    assert (gap.low, gap.high) == (-1.0, 1.0)


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


def test_canaries_that_were_changed_do_not_count_and_the_record_says_so():
    logits, labels, members = case(5)
    counted = np.arange(40) >= 15
    found = utility(logits, labels, members, 0.95, counted)
    expected = utility(logits[:, 15:], labels[15:], members[:, 15:], 0.95)
    assert [f.value for f in found] == [f.value for f in expected]
    assert all("15 records of canaries are not counted" in f.note for f in found)
    assert "canaries" not in utility(logits, labels, members, 0.95, np.ones(40, dtype=bool))[0].note


def test_where_each_class_is_a_unit_only_training_accuracy_is_a_merit():
    """A model trained without a person has no name for her; being wrong about her is no fault."""
    people = np.repeat(np.arange(6), 4)
    data = Population(np.zeros((24, 2), np.float32), Unit("person", people), labels=people)
    rng = np.random.default_rng(0)
    members = np.stack([np.isin(np.arange(6), [0, 1, 2]), np.isin(np.arange(6), [3, 4, 5])])
    logits = 5.0 * np.eye(6)[np.stack([people, people])] + rng.normal(size=(2, 24, 6))
    answers = Answers(people, logits, {})
    settings = AuditSettings(attacks=[LossThreshold()], models=2)
    membership = settings.membership(data)
    found = by_name(usefulness(answers, members, data, membership, settings, random=False))
    assert found["training-accuracy"].value == 1.0
    for name, finding in found.items():
        if name != "training-accuracy":
            assert finding.value is None
            assert not finding.resolvable
            assert "no name for it" in finding.note


def test_natural_canaries_are_as_good_as_any_record():
    kinds = np.array(["none", "natural", "mislabelled", "duplicated", "isolated"])
    data = Population(np.zeros((5, 2), dtype=np.float32), "example", labels=np.array([0, 1, 0, 1, 0]))
    assert honest(data).all()
    assert honest(replace(data, groups={"canary": kinds})).tolist() == [True, True, False, False, False]


def drawn(models, n=40):
    """Answers with the label on top in the first half of the records, in the mean of 4 draws in all, off in none."""
    logits, labels, members = case(models, n)
    half = np.where(np.arange(n) < n / 2, 1.0, -1.0)

    def table(hinge):
        return {name: np.tile(hinge[None, :, None], (models, 1, 1)) for name in ("hinge", "hinge@probabilities")}

    scalars = {
        "none-x1-game": table(half), "none-x4-game": table(np.ones(n)), "none-x1-off": table(-np.ones(n)),
    }  # fmt: skip
    return Answers(labels, logits, scalars), ~members


@pytest.mark.parametrize("models", [1, 4])
def test_accuracy_of_one_draw_of_the_mean_and_of_the_drift_stand_side_by_side(models):
    answers, outside = drawn(models)
    found = by_name(utility_of_draws(answers, outside, 4, 0.95))
    assert list(found) == ["accuracy-one-draw", "accuracy-mean-of-4-draws", "accuracy-drift-alone"]
    first = np.mean([rows[:20].sum() / rows.sum() for rows in outside])
    assert [f.value for f in found.values()] == pytest.approx([first, 1.0, 0.0])
    assert found["accuracy-one-draw"].low < first < found["accuracy-one-draw"].high


def test_an_accuracy_on_few_records_or_without_a_network_is_not_measured():
    answers, outside = drawn(2)
    few = outside & (np.arange(40) < 6)
    for found in utility_of_draws(answers, few, 4, 0.95):
        assert (found.value, found.resolvable) == (None, False)
        assert "were asked so" in found.note
    hidden = Answers(answers.labels, answers.logits, {**answers.scalars, "none-x1-off": {}})
    drift = by_name(utility_of_draws(hidden, outside, 4, 0.95))["accuracy-drift-alone"]
    assert (drift.value, "out of reach" in drift.note) == (None, True)


def test_records_with_a_planted_label_do_not_count_for_usefulness():
    """A right answer on them would count as an error."""
    rng = np.random.default_rng(0)
    plain = Population(rng.random((40, 3)).astype(np.float32), Unit("example"), labels=np.arange(40) % 4)
    dealt = with_owners(plain, 10, 2, 0)
    assert honest(dealt).sum() == 32
    assert not honest(dealt)[planted_rows(dealt)].any()
