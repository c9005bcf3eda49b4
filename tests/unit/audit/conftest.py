from typing import NamedTuple

import numpy as np
import pytest

from sfumato.attacks.membership.bavaria import BaVarIA
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import Run, compare
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population, Unit
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.undefended import Undefended
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

ATTACKS = (LossThreshold(), LiRAOnline(), BaVarIA())
TASK = Task(model=MLP(hidden=(16,)), optimizer=Optimizer(lr=0.1), epochs=8, batch_size=16)


class Compared(NamedTuple):
    """A small comparison: its run, its input, and the store it left behind."""

    run: Run
    population: Population
    recipes: tuple[Recipe, ...]
    settings: AuditSettings
    store: Store


@pytest.fixture(scope="session")
def population():
    """120 records of 60 people with noisy labels; every name is recognisable in a file."""
    rng = np.random.default_rng(0)
    person = np.array([f"zz-person-{i:03d}" for i in np.repeat(np.arange(60), 2)])
    return Population(
        rng.normal(size=(120, 8)).astype(np.float32),
        Unit("person", person),
        labels=rng.integers(0, 3, 120),
        ids=np.array([f"zz-record-{i:03d}" for i in range(120)]),
        groups={"site": np.where(np.arange(120) < 60, "north", "south"), "name": person},
        name="made up",
    )


@pytest.fixture(scope="session")
def recipes():
    return Recipe(TASK, Undefended()), Recipe(TASK, LabelSmoothing(smoothing=0.3))


@pytest.fixture(scope="session")
def settings():
    return AuditSettings(attacks=ATTACKS, models=8, fprs=(0.1, 0.01), replicates=40, delta=1e-3, design="coins")


@pytest.fixture(scope="session")
def compared(population, recipes, settings, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    run = compare(population, recipes, settings, store, executor="inline", command="sfumato compare made-up")
    return Compared(run, population, recipes, settings, store)
