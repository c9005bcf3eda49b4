"""Bayes' rule with the honest baseline as prior."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.attribute_inference import (
    FLOOR,
    ODDS_WEIGHTS,
    WEIGHTS,
    AttributeInferenceByScores,
    best_weights,
    posterior,
    ranked,
    spread,
    sureness,
)
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.attacks.inversion.population_baseline import baseline_guesses, baseline_probabilities
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

BITS = 9
BOX = Box(torch.zeros(BITS), torch.ones(BITS), torch.ones(BITS))
VALUES = np.array([0.0, 1.0], np.float32)


def bits(n, seed):
    """Records of bits whose class is their parity: no rule that sees few of them tells one bit from the others."""
    x = np.random.default_rng(seed).integers(0, 2, (n, BITS)).astype(np.float32)
    return x, (x.sum(axis=1) % 2).astype(np.int64)


def parity(x):
    odd = torch.remainder(x.sum(dim=1), 2)
    return 20 * torch.stack([1 - odd, odd], dim=1)


def blind(x):
    """Looks at all columns but the hidden one."""
    return x[:, [0, 1]] * 3


def evidence(predict=parity, n=200):
    x, y = bits(n, 0)
    known, labels = bits(150, 1)
    hidden = x.copy()
    hidden[:, 4] = np.nan
    oracle = oracle_of(predict, Undefended(), (BITS,), 2, BOX, seed=0, name="m").restricted_to("scores")
    public = Population(known, "example", labels=labels)
    given = AttributeEvidence(oracle, hidden, y, 4, VALUES, public, known[:, 4].astype(np.int64), 0)
    return given, x[:, 4]


def infer(given, **settings):
    attack = AttributeInferenceByScores(**settings)
    return attack.reconstruct(given, [fit.run() for fit in attack.fits(given)])


def test_bayes_rule():
    prior, likelihood = np.array([[0.2, 0.8], [0.5, 0.5]]), np.log([[0.9, 0.1], [0.25, 0.5]])
    np.testing.assert_allclose(posterior(prior, likelihood), [[0.18 / 0.26, 0.08 / 0.26], [1 / 3, 2 / 3]])


def test_where_the_model_tells_nothing_the_prior_comes_back_untouched():
    prior = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    assert np.array_equal(posterior(prior, np.full((50, 3), -1.234)), prior)


def test_values_are_ranked_and_equal_ones_keep_their_order():
    found = ranked(np.array([5.0, 6.0, 7.0]), np.array([[0.2, 0.6, 0.2]]), 9, {})
    assert found.records.tolist() == [[[6.0], [5.0], [7.0]]]
    assert found.confidence.tolist() == [[0.6, 0.2, 0.2]]
    assert found.queries == 9


def test_an_exact_model_gives_the_attribute_away_which_public_records_do_not():
    given, truth = evidence()
    found = infer(given)
    assert (found.records[:, 0, 0] == truth).all()
    assert abs((baseline_guesses(given) == truth).mean() - 0.5) < 0.15
    assert found.queries == given.oracle.queries == 2 * (200 + 150)  # public records test the exponent
    assert found.facts["weight"] > 0
    assert found.records.shape == (200, 2, 1)
    assert (found.confidence[:, 0] > 0.99).all()
    assert 0.3 < found.facts["unlike_the_baseline"] < 0.7


def test_a_model_that_ignores_the_column_leaves_the_baseline_exactly():
    given, _ = evidence(blind)
    found, prior = infer(given), baseline_probabilities(given)
    assert np.array_equal(found.records[:, 0, 0], VALUES[baseline_guesses(given)])
    assert np.array_equal(found.confidence, -np.sort(-prior, axis=1))
    assert found.facts["unlike_the_baseline"] == 0


def test_weights_of_0_leave_the_baseline():
    given, _ = evidence()
    assert np.array_equal(infer(given, weight=0.0, odds_weight=0.0).records[:, 0, 0], VALUES[baseline_guesses(given)])


def test_sureness_is_that_of_the_true_class_with_each_value_filled_in():
    given, truth = evidence(n=6)
    told = sureness(given, given.records, given.labels)
    right = truth.astype(int)
    np.testing.assert_allclose(told[np.arange(6), right], np.tile([0, 20], (6, 1)), atol=1e-4)
    np.testing.assert_allclose(told[np.arange(6), 1 - right], -20, atol=1e-4)


def test_a_model_that_is_sure_with_any_value_still_tells_them_apart_by_its_log_odds():
    """It knows the records by heart: its p is 1 - 1e-8 or 1 - 1e-9."""

    def by_heart(x):
        right = x[:, 4] == torch.remainder(x[:, :4].sum(dim=1), 2)
        return torch.stack([18.0 + 3 * right, torch.zeros(len(x))], dim=1)

    given, _ = evidence(by_heart)
    given = replace(given, labels=np.zeros(200, dtype=np.int64))
    known = given.records[:, :4].sum(axis=1) % 2
    prior = VALUES[baseline_guesses(given)]
    assert np.array_equal(infer(given, weight=1.0, odds_weight=0.0).records[:, 0, 0], prior)
    assert (infer(given, weight=1.0, odds_weight=1.0).records[:, 0, 0] == known).mean() > 0.95


def test_a_score_of_nothing_is_a_number():
    given, truth = evidence(lambda x: torch.where(parity(x) > 0, 0.0, -torch.inf))
    told = sureness(given, given.records, given.labels)
    assert told.min() == FLOOR
    assert told.max() == -FLOOR
    assert (infer(given).records[:, 0, 0] == truth).all()


def test_a_model_that_knows_only_what_the_baseline_knows_is_not_counted_twice():
    """The class says all there is of the value: an exact likelihood on top would make the attacker too sure."""
    rng = np.random.default_rng(0)
    prior, even = np.tile([0.3, 0.7], (4000, 1)), np.full((4000, 2), 0.5)
    values = (rng.random(4000) < 0.7).astype(np.int64)
    told = np.stack([np.log(prior), np.zeros((4000, 2))], axis=2)
    choices = [(weight, 0.0) for weight in WEIGHTS]
    assert best_weights(prior, told, values, choices) == (0, 0)
    assert best_weights(even, told, values, choices) == (1, 0)
    assert best_weights(even, 0.5 * told, values, choices) == (2, 0)
    assert best_weights(even, 10 * told[..., ::-1], values, [(0.0, w) for w in ODDS_WEIGHTS]) == (0, 0.1)


def test_no_weight_below_the_least_is_taken():
    """What the model learned by heart cannot show on records that it never saw."""
    given, _ = evidence(lambda x: 1 - parity(x))  # the wrong class, always
    assert infer(given).facts["weight"] == 0.5
    assert infer(given, least=0.6).facts["weight"] == 1
    assert infer(given).facts["odds_weight"] == 0.1
    misled = infer(given, least=0.0, least_odds=0.0).facts
    assert misled["weight"] == 0
    assert misled["odds_weight"] == 0


def test_the_spread_is_that_between_values_of_one_record():
    odds = np.array([[1.0, 3.0], [104.0, 100.0]])
    assert spread(odds) == pytest.approx(np.sqrt((1 + 1 + 4 + 4) / 4))
    assert spread(np.array([[7.0, 7.0], [9.0, 9.0]])) == 1


def test_the_unit_of_log_odds_is_their_spread():
    """A network ten times as steep gives the same guesses by its log-odds."""

    def steep(by):
        slopes = torch.stack([torch.zeros(BITS), torch.linspace(0.1, 0.9, BITS)], dim=1)
        return lambda x: by * (x - 0.5) @ slopes

    plain, tenfold = (infer(evidence(steep(by))[0], weight=0.0, odds_weight=0.5) for by in (1.0, 10.0))
    np.testing.assert_allclose(plain.confidence, tenfold.confidence, atol=1e-5)
    assert np.array_equal(plain.records, tenfold.records)


def test_a_negative_weight_is_refused():
    with pytest.raises(UsageError, match="weight"):
        AttributeInferenceByScores(weight=-1.0)
    with pytest.raises(UsageError, match="odds_weight"):
        AttributeInferenceByScores(odds_weight=101.0)


@pytest.mark.parametrize("name", ["least", "least_odds"])
@pytest.mark.parametrize("value", [-0.1, 3.0])
def test_a_least_weight_that_is_none_of_them_is_refused(name, value):
    with pytest.raises(UsageError, match=name):
        AttributeInferenceByScores(**{name: value})
