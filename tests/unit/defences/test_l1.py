import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.l1 import L1
from sfumato.defences.undefended import Undefended
from sfumato.defences.weight_decay import WeightDecay
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.defence import configured
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train

TASK = Task(model=MLP(hidden=(4,)), epochs=3, batch_size=40, schedule="constant", optimizer=Optimizer(momentum=0.0))


def weights(defence, task=TASK):
    rng = np.random.default_rng(0)
    data = Population(ArrayRecords(rng.normal(size=(40, 3)).astype(np.float32)), "example", labels=np.arange(40) % 2)
    return train(task, defence, data, [Assignment(np.arange(40), 3)], LoopOptions(dtype=torch.float64))[0].state


def test_it_sets_the_optimisers_penalty_and_nothing_else():
    task = configured(L1(strength=0.02, inner=WeightDecay(weight_decay=0.3)), TASK)
    assert (task.optimizer.l1, task.optimizer.weight_decay) == (0.02, 0.3)
    assert L1().strength == 1e-3


def test_a_step_moves_each_weight_by_the_rate_times_the_strength():
    one = Task(model=TASK.model, epochs=1, batch_size=40, schedule="constant", optimizer=TASK.optimizer)
    plain, pulled = weights(Undefended(), one), weights(L1(strength=0.01), one)
    moved = torch.cat([(plain[k] - pulled[k]).flatten() for k in plain if k.endswith("weight")])
    assert torch.allclose(moved.abs(), torch.full_like(moved, 0.1 * 0.01), atol=1e-12)


def test_weights_become_smaller():
    def size(state):
        return sum(float(value.abs().sum()) for value in state.values())

    assert size(weights(L1(strength=0.05))) < size(weights(Undefended()))


def test_range():
    with pytest.raises(UsageError, match="strength"):
        L1(strength=-1.0)
