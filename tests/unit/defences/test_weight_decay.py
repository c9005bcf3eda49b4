import pytest

from sfumato.defences.weight_decay import WeightDecay
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.task import Optimizer, Task


def test_sets_the_optimisers_weight_decay_and_nothing_else():
    after = WeightDecay(weight_decay=0.01).configure(Task(model=MLP(), optimizer=Optimizer(name="adam", lr=0.02)))
    assert after == Task(model=MLP(), optimizer=Optimizer(name="adam", lr=0.02, weight_decay=0.01))


def test_range():
    with pytest.raises(UsageError, match="weight_decay"):
        WeightDecay(weight_decay=-1e-4)
