"""Features of a population: computed once, kept by content, looked up by record."""

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.models.features.base import Features
from sfumato.models.features.chain import Chain
from sfumato.models.features.fixed_norm import FixedNorm
from sfumato.models.linear import LinearModel
from sfumato.targets.asking import ask
from sfumato.training import features as module
from sfumato.training.features import Inputs, KnownFeatures, features_file, kept_features
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import PublicScaling, Task
from sfumato.types import Rows

CALLS: list[int] = []


@dataclass(frozen=True, kw_only=True)
class Doubled(Features):
    """Stands for a map that is worth storing; counts the records that it is asked for."""

    name: ClassVar[str] = "doubled"
    factor: int = 2

    @property
    def kept_as(self) -> np.dtype:
        return np.dtype(np.float16)

    def shape(self, record: tuple[int, ...]) -> tuple[int, ...]:
        return (2 * record[0], *record[1:])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        CALLS.append(len(x))
        return torch.cat([x, self.factor * x], dim=1).half().float()


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "WORTH_KEEPING", 10)
    monkeypatch.setattr(module, "CHUNK", 16)
    CALLS.clear()


def population(n: int = 40, seed: int = 0) -> Population:
    return Population(
        np.random.default_rng(seed).integers(0, 255, size=(n, 4), dtype=np.uint8), "example", labels=np.arange(n) % 2
    )


def all_rows(data: Population) -> Rows:
    return np.arange(len(data))


def test_inputs_are_the_features_of_the_records():
    data, features = population(), Chain(maps=(Doubled(), FixedNorm(norm=2.0)))
    inputs = Inputs(data, features)
    expected = features(data.tensor(all_rows(data)))
    assert inputs.shape == (8,)
    assert torch.equal(inputs.all(), expected)
    assert torch.equal(torch.cat(list(inputs.batches(all_rows(data)))), expected)
    assert torch.equal(inputs.take(np.array([7, 3])), expected[[7, 3]])
    assert torch.equal(
        inputs.all(torch.nn.Linear(8, 3, bias=False).requires_grad_(False)).isfinite(), torch.ones(40, 3) > 0
    )


def test_without_features_they_are_the_records():
    data = population()
    assert torch.equal(Inputs(data).all(), data.tensor(all_rows(data)))
    assert Inputs(data).shape == (4,)


def test_they_are_computed_once_and_kept_by_content():
    kept_features(population(), Doubled())
    assert sum(CALLS) == 40
    again = kept_features(population(), Doubled())
    assert sum(CALLS) == 40
    assert again.dtype == np.float16
    kept_features(population(seed=1), Doubled())
    kept_features(population(), Doubled(factor=3))
    assert sum(CALLS) == 120


def test_few_records_leave_no_file(tmp_path):
    kept_features(population(9), Doubled())
    assert not list(tmp_path.rglob("*.npy"))


def test_only_the_owner_may_read_the_file_and_others_files_are_not_trusted():
    data = population()
    kept_features(data, Doubled())
    path = features_file(data, Doubled())
    assert path.stat().st_mode & 0o077 == 0
    os.chmod(path, 0o666)
    kept_features(data, Doubled())
    assert sum(CALLS) == 80
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_file_or_one_of_another_shape_is_made_anew(content):
    data = population()
    path = features_file(data, Doubled())
    path.parent.mkdir(parents=True)
    if content is None:
        np.save(path, np.zeros((40, 7), dtype=np.float16))
    else:
        path.write_bytes(content)
    os.chmod(path, 0o600)
    assert kept_features(data, Doubled()).shape == (40, 8)


def test_a_pickle_in_its_place_is_never_loaded():
    data = population()
    path = features_file(data, Doubled())
    path.parent.mkdir(parents=True)
    np.save(path, np.array([object()]), allow_pickle=True)
    os.chmod(path, 0o600)
    assert kept_features(data, Doubled()).shape == (40, 8)


def test_known_records_are_looked_up_and_others_computed():
    data = population()
    known = KnownFeatures(Inputs(data, Doubled()))
    x = data.tensor(all_rows(data))
    first = known(x)
    assert sum(CALLS) == 40
    assert torch.equal(known(x[[5, 2]]), first[[5, 2]])
    assert sum(CALLS) == 40
    other = population(3, seed=5).tensor(np.arange(3))
    assert torch.equal(known(other), Doubled()(other))


@pytest.mark.parametrize("private", [True, False])
def test_training_and_asking_go_through_the_map(private):
    data = population()
    steps = DPSGD(
        sample_rate=0.5,
        expected_batch_size=20,
        steps=4,
        delta=1e-5,
        adjacency="ADD_OR_REMOVE_ONE",
        noise_multiplier=1.0,
    )
    task = Task(model=LinearModel(), features=Doubled(), epochs=2, scaling=None if private else PublicScaling())
    recipe = Recipe(task, steps if private else Undefended())
    model = recipe.fit(data, [Assignment(np.arange(20), 0)], LoopOptions())[0]
    assert list(model.state) == ["1.weight", "1.bias"] or list(model.state)[-1].endswith("bias")
    weight, bias = (value for name, value in model.state.items() if "mean" not in name and "std" not in name)
    assert weight.shape == (2, 8)
    expected = Doubled()(data.tensor(all_rows(data))) @ weight.T + bias
    logits = ask(recipe.predictor(model, data), recipe.defence, data, (), 0).logits
    assert np.allclose(logits, expected.numpy(), atol=1e-5)


def test_augmentation_of_features_is_refused():
    with pytest.raises(UsageError, match="no augmentation of fixed features"):
        Task(model=LinearModel(), features=Doubled(), augmentation=("flip",))
