"""No door from the strength of a network's noise to a privacy parameter: none in `sde`, its networks and defences."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import sfumato.defences
import sfumato.models
import sfumato.sde
from sfumato.accounting.guarantee import NoGuarantee
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import compare
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.defences.drop_in import DropIn
from sfumato.execution.store import Store
from sfumato.models.residual_net import ResidualNet
from sfumato.registry import discover
from sfumato.sde.diffusions.choice import diffusions
from sfumato.training.defence import Defence
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task

LOCAL = "sfumato.sde.private_input"  # the input of a block behind a bound that is enforced: the one proof there is
FORBIDDEN = ("epsilon", "delta", "guarantee", "accountant")
DROP_INS = {name: kind for name, kind in discover(sfumato.defences, Defence).items() if issubclass(kind, DropIn)}


def modules():
    names = ["sfumato.sde"]
    names += [found.name for found in pkgutil.walk_packages(sfumato.sde.__path__, "sfumato.sde.")]
    names += [kind.__module__ for kind in (*DROP_INS.values(), DropIn)]
    names += [f"sfumato.models.{name}" for name in ("ode_net", "sde_net", "continuous")]
    return [importlib.import_module(name) for name in dict.fromkeys(names)]


def defined():
    """Classes and functions of these modules, each once."""
    for module in modules():
        for value in vars(module).values():
            if getattr(value, "__module__", None) == module.__name__ and (inspect.isclass(value) or callable(value)):
                yield f"{module.__name__}.{value.__qualname__}", value


def names_of(value) -> set[str]:
    """Everything that a caller could set or read."""
    found = set(vars(value)) if inspect.isclass(value) else set()
    for function in [value, *(getattr(value, "__dict__", {}).values() if inspect.isclass(value) else ())]:
        if inspect.isfunction(function):
            found |= set(inspect.signature(function).parameters)
    if dataclasses.is_dataclass(value):
        found |= {field.name for field in dataclasses.fields(value)}
    return found


def suspicious(value) -> list[str]:
    return [name for name in names_of(value) if any(word in name.lower() for word in FORBIDDEN)]


def test_the_walk_sees_what_there_is():
    seen = dict(defined())
    assert set(DROP_INS) == {"neural-ode", "neural-sde", "residual-perturbation"}
    assert len(seen) > 60
    for name in ("sde.block.SDEBlock", "sde.replace.replace", "defences.neural_sde.NeuralSDE", "models.sde_net.SDENet"):
        assert f"sfumato.{name}" in seen


def test_a_name_that_speaks_of_privacy_would_be_seen():
    @dataclasses.dataclass
    class Door:
        target_epsilon: float = 1.0

        def calibrate(self, sigma: float, delta: float) -> float:
            return sigma

    assert sorted(suspicious(Door)) == ["delta", "target_epsilon"]


def test_no_class_or_function_has_such_a_parameter_or_attribute():
    found = {name: words for name, value in defined() if (words := suspicious(value))}
    assert [name for name, words in found.items() if any("epsilon" in word for word in words)] == []
    assert [name for name in found if not name.startswith(LOCAL)] == []


@pytest.mark.parametrize("name", DROP_INS)
def test_they_are_empirical(name):
    assert DROP_INS[name].family == "empirical"
    assert "guarantee" in DROP_INS[name].summary


@pytest.mark.parametrize("diffusion", diffusions())
@pytest.mark.parametrize("sigma", [0.01, 100.0])
def test_whatever_the_noise_a_training_has_no_guarantee(diffusion, sigma):
    rng = np.random.default_rng(0)
    data = Population(rng.normal(size=(24, 4)).astype(np.float32), "example", labels=np.arange(24) % 2)
    defence = DROP_INS["neural-sde"](diffusion=diffusion, sigma=sigma, steps=1)
    recipe = Recipe(Task(model=ResidualNet(width=4, blocks=1), epochs=1, batch_size=12), defence)
    model = recipe.fit(data, [Assignment(np.arange(12), 1)], LoopOptions())[0]
    assert isinstance(model.guarantee, NoGuarantee)
    assert model.guarantee_statement.startswith("none, because of ordinary training")


@pytest.mark.parametrize("name", ["neural-sde", "residual-perturbation"])
def test_a_record_says_none(name, tmp_path):
    rng = np.random.default_rng(0)
    data = Population(rng.normal(size=(48, 4)).astype(np.float32), "example", labels=np.arange(48) % 2)
    task = Task(model=ResidualNet(width=4, blocks=1), epochs=1, batch_size=12)
    settings = AuditSettings(attacks=(LossThreshold(),), models=4)
    run = compare(data, [Recipe(task, DROP_INS[name]())], settings, Store(tmp_path))
    (subject,) = run.record.subjects
    assert subject.guarantee.status == "none"
    assert subject.guarantee.numbers is None
