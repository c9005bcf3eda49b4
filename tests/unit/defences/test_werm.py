from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.relaxloss import RelaxLoss
from sfumato.defences.werm import WERM
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.splitting import roles_of
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train

TASK = Task(model=MLP(hidden=()), epochs=1, batch_size=40, optimizer=Optimizer(lr=0.5, momentum=0.0))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int))


def state(defence, data, task=TASK):
    work = [Assignment(np.arange(20), 1)]
    return train(task, defence, data, work, LoopOptions(dtype=torch.float64))[0].state


def test_one_step_is_the_weighted_sum_of_the_two_steps(data):
    """One step of plain gradient descent on all records, and half of them for reference: the step is linear in w."""
    none, all_, part = (state(WERM(weight=w, reference_fraction=0.5), data) for w in (0.0, 1.0, 0.3))
    for name in none:
        assert torch.allclose(part[name], 0.7 * none[name] + 0.3 * all_[name], atol=1e-12)
        assert not torch.allclose(none[name], all_[name], atol=1e-3)


@pytest.mark.parametrize(("weight", "unheard"), [(0.0, "reference"), (1.0, "fit")])
def test_records_without_weight_do_not_matter(data, weight, unheard):
    task, defence = replace(TASK, epochs=2, batch_size=6), WERM(weight=weight)
    roles = roles_of(task, defence, data, np.arange(20), 1)
    for role in ("fit", "reference"):
        labels = np.where(roles == role, 1 - data.labels, data.labels)
        first, second = (state(defence, d, task) for d in (data, Population(data.records, "example", labels=labels)))
        assert all(torch.equal(first[k], second[k]) for k in first) is (role == unheard)


def test_branches_are_counted_for_training_records_alone(data):
    task, work = replace(TASK, epochs=2, batch_size=6), [Assignment(np.arange(20), 1)]
    trained = train(task, WERM(inner=RelaxLoss()), data, work, LoopOptions())[0]
    assert sum(trained.tallies.values()) == 2 * 3  # epochs of 14 records in three steps


def test_it_says_that_it_is_a_reconstruction():
    assert "not known to us" in WERM().reconstruction


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_range(weight):
    with pytest.raises(UsageError, match="weight"):
        WERM(weight=weight)
