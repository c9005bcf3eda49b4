"""What public records alone tell of a hidden attribute."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.inversion import population_baseline
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.attacks.inversion.population_baseline import (
    PopulationFit,
    baseline_guesses,
    baseline_probabilities,
    chosen_rule,
    held_out_probabilities,
    known_features,
    rules,
    shares_by_class,
    smoothed,
)
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of


def table(n, seed, depends="nothing"):
    """Records [n, 4] whose column 1 is 0 or 1 and depends on others, on the class, or on nothing."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n)
    chance = {"nothing": 0.7, "column": x[:, 0] > 0, "class": y == 2, "product": x[:, 0] * x[:, 2] > 0}[depends]
    x[:, 1] = rng.random(n) < chance
    return x, y


def evidence(n=300, public=300, depends="nothing", seed=0, classes=3):
    x, y = table(n, 1, depends)
    known, labels = table(public, 2, depends)
    hidden = x.copy()
    hidden[:, 1] = np.nan
    names = tuple(map(str, range(classes)))
    population = Population(known, "example", labels=labels, class_names=names)

    def never(records):
        raise AssertionError("the baseline asked the model")

    oracle = oracle_of(never, Undefended(), (4,), classes, Box(None, None, None), seed=0, name="m")
    given = AttributeEvidence(
        oracle, hidden, y, 1, np.array([0, 1], np.float32), population, known[:, 1].astype(np.int64), seed
    )
    return given, x[:, 1].astype(np.int64)


def test_features_leave_the_hidden_column_out_and_name_the_class():
    x = np.array([[1.0, np.nan, 3.0], [4.0, np.nan, 6.0]])
    assert known_features(x, np.array([2, 0]), 1, 3).tolist() == [[1, 3, 0, 0, 1], [4, 6, 1, 0, 0]]


def test_smoothing_leaves_nothing_impossible():
    assert smoothed(np.array([[1.0, 0.0]]), 2).tolist() == [[0.75, 0.25]]


def test_shares_are_counted_by_class():
    seen = known_features(np.zeros((5, 1)), np.array([0, 0, 0, 1, 1]), 0, 3)
    asked = known_features(np.zeros((3, 1)), np.array([0, 1, 2]), 0, 3)
    told = shares_by_class(seen, np.array([0, 0, 1, 1, 1]), asked, 2, 3)
    np.testing.assert_allclose(told, [[3 / 5, 2 / 5], [1 / 4, 3 / 4], [1 / 2, 1 / 2]])


@pytest.mark.parametrize(
    ("depends", "least", "best"),
    [("nothing", 0.62, "shares"), ("class", 0.99, None), ("column", 0.93, None), ("product", 0.85, "trees")],
)
def test_it_learns_what_there_is_to_learn(depends, least, best):
    given, truth = evidence(depends=depends)
    assert (baseline_guesses(given) == truth).mean() >= least
    if best:
        x = given.public.tensor(np.arange(300)).numpy()
        seen = known_features(x, given.public.label_array, 1, 3)
        assert chosen_rule(seen, given.public_values, 2, 3) == best


def test_few_public_records_tell_shares_only():
    given, _ = evidence(public=20)
    seen = known_features(given.public.tensor(np.arange(20)).numpy(), given.public.label_array, 1, 3)
    assert chosen_rule(seen, given.public_values, 2, 3) == "shares"
    asked = known_features(given.records, given.labels, 1, 3)
    np.testing.assert_allclose(baseline_probabilities(given), shares_by_class(seen, given.public_values, asked, 2, 3))


def test_probabilities_are_above_0_and_sum_to_1():
    given, _ = evidence(depends="column")
    told = baseline_probabilities(given)
    assert told.shape == (300, 2)
    assert (told > 0).all()
    np.testing.assert_allclose(told.sum(axis=1), 1)
    assert np.array_equal(told.argmax(axis=1), baseline_guesses(given))


@pytest.mark.parametrize("name", ["logistic", "trees"])
def test_one_value_only_needs_no_fit(name):
    told = rules(2)[name](np.zeros((4, 3)), np.ones(4, dtype=np.int64), np.zeros((2, 3)), 2)
    np.testing.assert_allclose(told, [[1 / 6, 5 / 6]] * 2)


def test_it_is_the_same_for_every_seed_and_target_and_reads_no_hidden_value():
    first, second = evidence(seed=0)[0], evidence(seed=9)[0]
    assert np.array_equal(baseline_probabilities(first), baseline_probabilities(second))
    fit = PopulationFit(evidence=first)
    assert fit.key == PopulationFit(evidence=second).key
    assert fit.key != PopulationFit(evidence=evidence(depends="column")[0]).key
    assert np.array_equal(fit.run()["probabilities"], baseline_probabilities(first))


def test_of_very_many_public_records_some_are_read_from_first_to_last(monkeypatch):
    given, _ = evidence(public=300, depends="column")
    rows = np.linspace(0, 299, 60).astype(int)
    some = replace(given, public=given.public.take(rows), public_values=given.public_values[rows])
    assert not np.array_equal(baseline_probabilities(given), baseline_probabilities(some))
    monkeypatch.setattr(population_baseline, "MOST", 60)
    assert np.array_equal(baseline_probabilities(given), baseline_probabilities(some))


@pytest.mark.parametrize("public", [20, 60])
def test_what_is_held_out_of_a_record_was_learned_without_it(public):
    given, _ = evidence(public=public, depends="class")
    told = held_out_probabilities(given)
    np.testing.assert_array_equal(told.rows, np.arange(public))
    np.testing.assert_allclose(told.probabilities.sum(axis=1), 1)
    for row in (0, 7):
        values = given.public_values.copy()
        values[row] = 1 - values[row]
        changed = held_out_probabilities(replace(given, public_values=values)).probabilities
        np.testing.assert_allclose(changed[row], told.probabilities[row])
        assert not np.allclose(changed, told.probabilities)
