from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.models.mlp import MLP
from sfumato.training.defence import Defence
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.seen import Seen, Tally
from sfumato.training.task import Task
from sfumato.training.train import train


def seen(models=1, rows=6, tally=None):
    return Seen(torch.zeros(rows, 3), torch.eye(3)[torch.arange(rows) % 3], models=models, tally=tally)


def test_the_mean_is_over_each_models_own_rows_and_given_to_each_of_them():
    values = torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0, 30.0])
    assert seen(1).mean(values).tolist() == [11.0] * 6
    assert seen(2).mean(values).tolist() == [2.0] * 3 + [20.0] * 3
    assert seen(3).mean(values).tolist() == [1.5] * 2 + [6.5] * 2 + [25.0] * 2


def test_the_mean_over_rows_of_a_mean_has_its_gradient():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    (gradient,) = torch.autograd.grad((seen(2, 4).mean(values) * torch.tensor([1.0, 1.0, 5.0, 5.0])).mean(), values)
    assert gradient.tolist() == [0.25, 0.25, 1.25, 1.25]


def test_a_tally_counts_steps_by_model_and_shares_of_rows_as_shares_of_a_step():
    tally = Tally(2)
    at = seen(2, 8, tally)
    at.count("a", torch.tensor([True] * 4 + [False] * 4))
    at.count("a", torch.tensor([True] * 5 + [False] * 3))
    at.count("b", torch.tensor([False] * 7 + [True]))
    assert tally.of(0) == {"a": 2.0, "b": 0.0}
    assert tally.of(1) == {"a": 0.25, "b": 0.25}
    assert all(steps.dtype == torch.float64 for steps in tally.steps.values())


def test_where_nobody_counts_counting_is_nothing():
    seen().count("a", torch.ones(6, dtype=torch.bool))


def test_other_outputs_and_labels_leave_the_rest_as_it_is():
    tally, features = Tally(1), torch.ones(6, 2)
    at = Seen(torch.zeros(6, 3), torch.zeros(6, 3), features, {"x": torch.nn.Identity()}, 4, 9, 1, tally)
    other = at.having(torch.ones(6, 3), torch.full((6, 3), 2.0))
    assert bool((other.outputs == 1).all())
    assert bool((other.targets == 2).all())
    rest = ("features", "extras", "epoch", "epochs", "models", "tally")
    assert all(getattr(other, name) is getattr(at, name) for name in rest)


@dataclass(frozen=True, kw_only=True)
class Counts(Defence):
    """Counts epochs of two kinds, and records of class 0."""

    name: ClassVar[str] = "counts"

    def objective(self, seen, inner):
        seen.count("even" if seen.epoch % 2 == 0 else "odd", torch.ones(len(seen.targets), dtype=torch.bool))
        seen.count("class 0", seen.targets[:, 0] > 0)
        assert (seen.epochs, seen.features) == (5, None)
        return inner(seen)


@pytest.mark.parametrize("models", [1, 3])
def test_a_training_keeps_what_its_objective_counted_for_each_model(models):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    population = Population(ArrayRecords(rng.normal(size=(40, 3)).astype(np.float32)), "example", labels=labels)
    work = [Assignment(np.arange(4 * model, 4 * model + 20), model) for model in range(models)]
    found = train(Task(model=MLP(hidden=(4,)), epochs=5, batch_size=10), Counts(), population, work, LoopOptions())
    for model, trained in enumerate(found):
        assert trained.tallies["even"] == 6.0
        assert trained.tallies["odd"] == 4.0
        assert trained.tallies["class 0"] == pytest.approx(10 * (20 - 4 * model) / 20)
        assert trained.facts()["tallies"] == trained.tallies
