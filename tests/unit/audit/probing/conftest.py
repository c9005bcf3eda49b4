from typing import NamedTuple

import numpy as np
import pytest

from sfumato.audit.probe import probe
from sfumato.audit.probing.risk_map import RiskMap
from sfumato.audit.probing.settings import ProbeSettings
from sfumato.data.population import Population
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.task import Optimizer, Task


class Probed(NamedTuple):
    """A tiny probe: its map, its input, and the store that it left behind."""

    map: RiskMap
    population: Population
    task: Task
    defence: LabelSmoothing
    settings: ProbeSettings
    store: Store


@pytest.fixture(scope="session")
def noisy():
    """60 records with random labels."""
    rng = np.random.default_rng(0)
    return Population(
        rng.normal(size=(60, 6)).astype(np.float32), "example", labels=rng.integers(0, 3, 60), name="made up"
    )


@pytest.fixture(scope="session")
def probed(noisy, tmp_path_factory):
    """Two pairs of models, every operation, a network of two regions."""
    task = Task(model=MLP(hidden=(8,)), optimizer=Optimizer(lr=0.1), epochs=4, batch_size=16, standardise=True)
    settings = ProbeSettings(models=4, epochs=1, replicates=20, fprs=(0.2, 0.01))
    defence, store = LabelSmoothing(smoothing=0.3), Store(tmp_path_factory.mktemp("store"))
    found = probe(noisy, task, defence, settings, store, executor="inline", command="sfumato probe made-up")
    return Probed(found, noisy, task, defence, settings, store)
