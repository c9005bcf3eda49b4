"""Prior of the value times the model's known errors."""

import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.attacks.inversion.fredrikson import Fredrikson, error_statistics, weights_of_values
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

BOX = Box(torch.zeros(2), torch.ones(2), torch.ones(2))
VALUES = np.array([0.0, 1.0, 2.0], np.float32)


def by_column_1(x):
    """Says the class that column 1 is."""
    return torch.nn.functional.one_hot(x[:, 1].long(), 3).float()


def evidence(predict=by_column_1, right=1.0, n=120):
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, 3, n)
    known = rng.choice(3, 300, p=[0.6, 0.3, 0.1])
    labels = np.where(rng.random(300) < right, known, (known + 1) % 3)
    x = np.stack([rng.random(n), np.full(n, np.nan)], axis=1).astype(np.float32)
    public = np.stack([rng.random(300), known], axis=1).astype(np.float32)
    oracle = oracle_of(predict, Undefended(), (2,), 3, BOX, seed=0, name="m").restricted_to("labels")
    population = Population(public, "example", labels=labels, class_names=("a", "b", "c"))
    return AttributeEvidence(oracle, x, hidden, 1, VALUES, population, known, 0), hidden


def test_errors_are_shares_of_the_truth_among_equal_answers():
    truth, told = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1])
    errors = error_statistics(truth, told, 2, 1e-9)
    np.testing.assert_allclose(errors, [[2 / 3, 0], [1 / 3, 1]], atol=1e-6)
    np.testing.assert_allclose(error_statistics(truth, told, 2, 1.0).sum(axis=0), 1)
    assert (error_statistics(truth, told, 3, 0.5)[:, 2] == 1 / 3).all()


def test_weights_are_prior_times_errors():
    errors = np.array([[0.9, 0.2], [0.1, 0.8]])
    weights = weights_of_values(np.array([0.25, 0.75]), errors, np.array([0, 1]), np.array([[0, 1], [0, 1]]))
    np.testing.assert_allclose(weights, [[0.225 / 0.375, 0.15 / 0.375], [0.025 / 0.625, 0.6 / 0.625]])


def test_a_model_that_tells_the_attribute_gives_it_away():
    given, truth = evidence()
    found = Fredrikson().reconstruct(given)
    assert (found.records[:, 0, 0] == truth).all()
    assert found.queries == given.oracle.queries == 300 + 3 * 120
    assert found.facts == {"answers_that_vary": 1.0}


def test_a_model_that_ignores_the_attribute_leaves_the_prior():
    given, _ = evidence(lambda x: torch.cat([x[:, :1], 1 - x[:, :1], x[:, :1] * 0], dim=1))
    found = Fredrikson().reconstruct(given)
    assert (found.records[:, 0, 0] == 0).all()
    prior = np.bincount(given.public_values) + 0.5
    np.testing.assert_allclose(found.confidence, np.tile(prior / prior.sum(), (120, 1)))
    assert found.facts == {"answers_that_vary": 0.0}


def test_known_errors_are_undone():
    given, truth = evidence(right=0.0)  # among public records the true class is always the one after the answer
    assert (Fredrikson().reconstruct(given).records[:, 0, 0] == (truth - 1) % 3).all()


def test_nothing_to_smooth_with_is_refused():
    with pytest.raises(UsageError, match="smoothing"):
        Fredrikson(smoothing=0.0)
