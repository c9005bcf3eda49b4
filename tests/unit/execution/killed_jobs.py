"""Jobs for the runs that are killed: the same in the killed process and in the one that goes on."""

import numpy as np

from sfumato.data.membership import Membership
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.undefended import Undefended
from sfumato.execution.jobs import TrainJob
from sfumato.models.mlp import MLP
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task


def jobs():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    data = Population(ArrayRecords(x), "example", labels=np.arange(40) % 2)
    task = Task(model=MLP(hidden=(6,), dropout=0.1), epochs=6, batch_size=5, optimizer=Optimizer(lr=0.05))
    design = Membership.half_pairs(data.units, 8, np.random.default_rng(1))
    recipe = Recipe(task, Undefended())
    return [TrainJob(recipe, data, design.rows(data, m), m, "float64") for m in range(8)]
