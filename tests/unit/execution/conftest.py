from dataclasses import replace

import numpy as np
import pytest

from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.undefended import Undefended
from sfumato.execution.jobs import TrainJob
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task


@pytest.fixture(scope="session")
def table():
    """60 records of 6 features in 3 classes."""
    rng = np.random.default_rng(3)
    labels = np.arange(60) % 3
    centres = rng.normal(size=(3, 6))
    x = (centres[labels] + 0.3 * rng.normal(size=(60, 6))).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=labels, name="blobs")


@pytest.fixture(scope="session")
def recipe():
    task = Task(model=MLP(hidden=(8,), dropout=0.2), epochs=2, batch_size=10, optimizer=Optimizer(lr=0.05))
    return Recipe(task, Undefended())


@pytest.fixture(scope="session")
def make_jobs(table, recipe):
    def make(models=4, dtype="float64", population=table, recipe=recipe, **task):
        if task:
            recipe = Recipe(replace(recipe.task, **task), recipe.defence)
        design = Membership.half_pairs(population.units, models, np.random.default_rng(1))
        return [
            TrainJob(recipe, population, design.rows(population, m), 100 + m, dtype, f"shadow {m}")
            for m in range(models)
        ]

    return make


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")
