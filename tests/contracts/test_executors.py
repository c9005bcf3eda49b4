"""Every executor trains the same models: over a whole training in float64, and over one step in float32."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sfumato.data.membership import Membership
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.mixup import Mixup
from sfumato.defences.undefended import Undefended
from sfumato.execution.discovery import executors_by_name
from sfumato.execution.executors.processes import Processes
from sfumato.execution.executors.stacked import Stacked
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.models.ode_net import ODENet
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8
from sfumato.models.sde_net import SDENet
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

MODELS = 4


@dataclass(frozen=True)
class Case:
    """A recipe and the shape of its records."""

    recipe: Recipe
    shape: tuple[int, ...] = (6,)


def recipe(model, defence=None, **task):
    numbers = {"epochs": 2, "batch_size": 8, "optimizer": Optimizer(lr=0.02)} | task
    return Recipe(Task(model=model, **numbers), defence or Undefended())


IMAGE = (1, 8, 8)
CASES = {
    "mlp with dropout and standardised inputs": Case(recipe(MLP(hidden=(8,), dropout=0.3), standardise=True)),
    "mlp with adam, averaged and stopped early": Case(
        recipe(
            MLP(hidden=(8,)),
            EarlyStopping(patience=1, validation_fraction=0.3),
            epochs=5,
            ema=0.8,
            optimizer=Optimizer(name="adam", lr=0.05),
        )
    ),
    "cnn with augmentation and mixup": Case(
        recipe(SmallCNN(), Mixup(), augmentation=("flip", "shift", "cutout")), IMAGE
    ),
    "batch normalisation": Case(recipe(ResNet8(norm="batch"), epochs=1, batch_size=12), IMAGE),
    "group normalisation, adamw": Case(
        recipe(ResNet8(norm="group"), epochs=1, batch_size=12, optimizer=Optimizer(name="adamw", lr=0.01)), IMAGE
    ),
    "residual network with the stem of the ODE networks": Case(
        recipe(ResidualNet(channels=4, blocks=2), epochs=1, batch_size=12), IMAGE
    ),
    "neural ODE on a table, augmented": Case(recipe(ODENet(width=6, steps=3, augmented=2))),
    "neural SDE on a table": Case(recipe(SDENet(width=6, steps=3, sigma=0.5))),
    "neural SDE on images": Case(recipe(SDENet(channels=4, steps=2, sigma=0.5), epochs=1, batch_size=12), IMAGE),
    "neural SDE on images, checkpointed": Case(
        recipe(SDENet(channels=4, steps=2, sigma=0.5, checkpointed=True), epochs=1, batch_size=24), IMAGE
    ),
    "binary head, nesterov": Case(
        recipe(
            MLP(hidden=(4,)),
            head="binary",
            schedule="step",
            optimizer=Optimizer(nesterov=True, lr=0.02, weight_decay=0.1),
        )
    ),
}


def population(shape, classes):
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(24), 2)
    x = rng.normal(size=(48, *shape)).astype(np.float32)
    return Population(ArrayRecords(x), Unit("patient", owners), labels=np.arange(48) % classes)


def jobs_of(case, dtype):
    data = population(case.shape, 2 if case.recipe.task.head == "binary" else 3)
    design = Membership.half_pairs(data.units, MODELS, np.random.default_rng(1))
    return [TrainJob(case.recipe, data, design.rows(data, m), 7 + m, dtype) for m in range(MODELS)]


def forms(executor):
    """The executor as it comes, and with its options used."""
    if executor is Processes:
        return [Processes(workers=1, models=2)]
    return [Stacked(3), Stacked(4)] if executor is Stacked else [executor()]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("executor", [e for n, e in executors_by_name().items() if n not in ("inline", "processes")])
def test_whole_trainings_agree_in_float64(name, executor, tmp_path):
    jobs = jobs_of(CASES[name], "float64")
    expected = execute(jobs, Store(tmp_path / "inline"), executor="inline")
    for number, form in enumerate(forms(executor)):
        store = Store(tmp_path / str(number))
        done = execute(jobs, store, executor=form)
        compare(jobs, Store(tmp_path / "inline"), store, 1e-8)
        assert not done.notices
        assert [r.facts["best_epoch"] for r in done.results] == [r.facts["best_epoch"] for r in expected.results]
        assert [r.facts["epochs"] for r in done.results] == [r.facts["epochs"] for r in expected.results]


@pytest.mark.parametrize("cases", [("binary head, nesterov",), pytest.param(tuple(CASES), marks=pytest.mark.slow)])
def test_processes_agree_in_float64(cases, tmp_path):
    jobs = [job for name in cases for job in jobs_of(CASES[name], "float64")]
    execute(jobs, Store(tmp_path / "inline"), executor="inline")
    execute(jobs, Store(tmp_path / "processes"), executor=Processes(workers=1, models=2))
    compare(jobs, Store(tmp_path / "inline"), Store(tmp_path / "processes"), 1e-8)


@pytest.mark.parametrize("name", CASES)
def test_one_step_agrees_in_float32(name, tmp_path):
    case = CASES[name]
    one_step = replace(case.recipe, task=replace(case.recipe.task, epochs=1, batch_size=48))
    jobs = jobs_of(replace(case, recipe=one_step), "float32")
    execute(jobs, Store(tmp_path / "inline"), executor="inline")
    execute(jobs, Store(tmp_path / "stacked"), executor=Stacked(MODELS))
    adaptive = case.recipe.task.optimizer.name != "sgd"
    compare(jobs, Store(tmp_path / "inline"), Store(tmp_path / "stacked"), 1e-5, but_for=1e-3 if adaptive else 0.0)


def compare(jobs, one, other, tolerance, but_for=0.0):
    """Weights, history and answers agree; `but_for`: share of the weights that may differ by rounding made large.

    Adam's first step is lr times the sign of the gradient, also where the gradient is nothing but rounding.
    """
    for job in jobs:
        a, b = one.weights(job.key), other.weights(job.key)
        assert a.state.keys() == b.state.keys()
        apart = torch.cat([(b.state[name] - value).abs().double().flatten() for name, value in a.state.items()])
        assert (apart > tolerance).double().mean() <= but_for
        assert apart.max() <= max(tolerance, 2 * but_for)
        assert a.history == b.history
        if not but_for:
            np.testing.assert_allclose(one.get(job.key).logits, other.get(job.key).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("executor", executors_by_name().values())
def test_every_executor_describes_itself_and_keeps_every_job(executor):
    jobs = jobs_of(CASES["binary head, nesterov"], "float64")
    assert executor.summary
    assert executor().describe()
    parts = executor().parts(jobs)
    assert [job.key for part in parts for job in part] == [job.key for job in jobs]
