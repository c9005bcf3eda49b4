import math

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.past import PAST, penalised, sparsity_gradient
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.models.build import build_seeded
from sfumato.models.mlp import MLP
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train

TASK = Task(model=MLP(hidden=(4,)), epochs=2, batch_size=8, optimizer=Optimizer(lr=0.1), schedule="constant")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 3)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int))


def size(defence, data):
    work = [Assignment(np.arange(30), 1)]
    state = train(TASK, defence, data, work, LoopOptions(dtype=torch.float64))[0].state
    return sum(float(v.abs().sum()) for k, v in state.items() if k.endswith("weight"))


def test_the_relative_gap_is_raised_and_capped():
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0])
    gap = torch.tensor([1.0, 2.0, 0.0, 5.0])  # relative: 0.5, 1, 0, 2.5
    assert sparsity_gradient(weight, gap, 2, 4.0).tolist() == [0.25, -1.0, 0.0, 4.0]
    assert sparsity_gradient(weight, gap, 2, 4.0, "l2").tolist() == [0.5, -4.0, 0.0, 24.0]


def test_without_power_every_weight_is_penalised_alike():
    weight = torch.tensor([1.0, -2.0, 3.0])
    assert sparsity_gradient(weight, torch.tensor([0.0, 1.0, 7.0]), 0, 1e4).tolist() == [1.0, -1.0, 1.0]


def test_no_gap_is_no_penalty():
    assert sparsity_gradient(torch.ones(3), torch.zeros(3), 4, 1e4).tolist() == [0.0] * 3


def test_weights_are_penalised_and_biases_are_not():
    network = build_seeded(SmallCNN(), (1, 8, 8), 3, seed=1)
    names = {name for name, p in network.named_parameters() if any(p is q for q in penalised(network))}
    assert names == {name for name, _ in network.named_parameters() if name.endswith("weight")}
    assert names
    next(iter(network.parameters())).requires_grad_(False)
    assert len(penalised(network)) == len(names) - 1


def test_a_stronger_penalty_leaves_smaller_weights(data):
    none, some, more = (size(PAST(strength=s, power=1.0, tuning_epochs=6), data) for s in (0.0, 0.1, 0.5))
    assert none > some + 0.05
    assert some > more + 0.05


def test_both_parts_count_as_epochs(data):
    work = [Assignment(np.arange(30), 1)]
    for tuning, epochs in ((None, 3), (5, 7)):
        assert train(TASK, PAST(tuning_epochs=tuning), data, work, LoopOptions())[0].epochs == epochs


def test_without_strength_it_is_ordinary_training_that_goes_on(data):
    """The reference records that are set aside are all that differs in the first part, and batches in the second."""
    assert math.isclose(size(PAST(strength=0.0), data), size(PAST(strength=0.0, power=0.0, penalty="l2"), data))
    assert size(PAST(strength=0.0), data) != size(Undefended(), data)


@pytest.mark.parametrize(
    "bad",
    [{"strength": -1.0}, {"power": -1.0}, {"cap": 0.0}, {"penalty": "l3"}, {"tuning_epochs": 0}, {"tuning_lr": 0}],
)
def test_ranges(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        PAST(**bad)
