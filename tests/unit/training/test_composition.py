import numpy as np
import pytest

from sfumato.data.population import Population
from sfumato.defences.memguard import MemGuard
from sfumato.defences.noise_first import NoiseFirst
from sfumato.defences.selena import SELENA
from sfumato.defences.weight_decay import WeightDecay
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.mlp import MLP
from sfumato.training.composition import fitted_guards, release_of
from sfumato.training.preparation import foreseen
from sfumato.training.task import Task

RELEASED = NoiseFirst.example()


@pytest.fixture(scope="module")
def data():
    return Population(np.zeros((20, 3), dtype=np.float32), "example", labels=np.arange(20) % 2)


@pytest.mark.parametrize("reader", [SELENA, MemGuard])
def test_nothing_is_foreseen_of_a_release_that_training_would_refuse(data, reader):
    """Else a plan would state a guarantee for it."""
    with pytest.raises(NotPrivateError, match=f"behind noise-first, got {reader.name}"):
        foreseen(Task(model=MLP()), reader(inner=RELEASED), data, None)


def test_a_release_inside_ordinary_parts_is_found(data):
    assert release_of(WeightDecay(inner=RELEASED), data).part is RELEASED


def test_a_fitted_guard_comes_once():
    """Two would keep their tensors under one name."""
    assert [part.name for part in fitted_guards(MemGuard())] == ["memguard"]
    with pytest.raises(UsageError, match="memguard and memguard"):
        fitted_guards(MemGuard(inner=MemGuard()))
