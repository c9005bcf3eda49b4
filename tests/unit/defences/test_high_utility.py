from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.accounting.guarantee import Guarantee
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.dpsgd_high import DPSGDHigh
from sfumato.defences.dpsgd_medium import DPSGDMedium
from sfumato.defences.dpsgd_veryhigh import DPSGDVeryHigh
from sfumato.defences.mixup import Mixup
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.mlp import MLP
from sfumato.training.composition import update_of
from sfumato.training.defence import configured
from sfumato.training.preparation import Assignment, LoopOptions, network_of
from sfumato.training.steps import ema_decay
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train

DUTIES = {"delta": 1e-5, "adjacency": "ADD_OR_REMOVE_ONE"}
TASK = Task(model=MLP(hidden=(4,)), optimizer=Optimizer(nesterov=True, weight_decay=0.1), schedule="cosine")
ROWS = np.arange(40)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Population(ArrayRecords(rng.random((40, 3), np.float32)), "example", labels=np.arange(40) % 2)


@pytest.mark.parametrize(
    ("kind", "batch", "epochs", "noise"),
    [(DPSGDMedium, 2048, 200, 0.2), (DPSGDHigh, 64, 16, 0.00625), (DPSGDVeryHigh, 64, 25, 0.003125)],
)
def test_the_published_numbers(kind, batch, epochs, noise):
    update = kind(records=50_000, **DUTIES).update
    assert update.sample_rate == batch / 50_000
    assert update.steps == round(epochs * 50_000 / batch)
    assert (update.expected_batch_size, update.noise_multiplier) == (batch, noise)
    assert (update.max_grad_norm, update.augmentations, update.lr, update.momentum) == (1.0, 8, 4.0, 0.0)
    assert (update.schedule, update.ema, update.delta) == ("constant", 0.9999, 1e-5)


def test_the_task_is_plain_sgd_with_an_average_that_warms_up():
    task = configured(DPSGDHigh(records=5000, **DUTIES), TASK)
    assert task.optimizer == Optimizer(lr=4.0, momentum=0.0, weight_decay=0.0, nesterov=False)
    assert (task.schedule, task.ema, task.ema_warmup, task.standardise) == ("constant", 0.9999, True, False)
    assert [ema_decay(task, step) for step in (0, 1, 90)] == [0.1, 2 / 11, 91 / 100]
    assert ema_decay(task, 10**6) == 0.9999
    assert ema_decay(replace(task, ema_warmup=False), 0) == 0.9999


def test_the_guarantee_is_real_and_states_its_epsilon(data):
    defence = DPSGDHigh(records=40, expected_batch_size=8, epochs=1, augmentations=1, **DUTIES)
    trained = train(configured(defence, TASK), defence, data, [Assignment(ROWS, 3)], LoopOptions())[0]
    found = trained.guarantee
    assert isinstance(found, Guarantee)
    assert found.epsilon > 1e4
    assert "noise multiplier 0.00625, 5 steps" in found.statement


def test_it_is_dpsgd_and_nothing_else(data):
    numbers = {"sample_rate": 0.2, "expected_batch_size": 8, "steps": 10, "noise_multiplier": 0.2, "ema": 0.9999}
    plain = DPSGD(lr=4.0, momentum=0.0, schedule="constant", optimizer="sgd", augmentations=8, **numbers, **DUTIES)
    named = DPSGDMedium(records=40, expected_batch_size=8, epochs=2, **DUTIES)
    assert update_of(named, data) == update_of(plain, data)
    unlike = replace(plain.configure(TASK), ema_warmup=True)
    assert replace(unlike, optimizer=Optimizer(lr=4.0, momentum=0.0)) == named.configure(TASK)


def test_the_private_loop_warms_its_average_up(data):
    update = DPSGD(
        sample_rate=0.5, expected_batch_size=20, steps=1, noise_multiplier=1.0, lr=0.5, momentum=0.0, **DUTIES
    )
    last, average = (
        train(replace(TASK, optimizer=Optimizer(), **ema), update, data, [Assignment(ROWS, 3)], LoopOptions())[0].state
        for ema in ({}, {"ema": 0.9, "ema_warmup": True})
    )
    first = network_of(configured(update, TASK), update, (3,), 2, 3).state_dict()
    for name, value in last.items():
        torch.testing.assert_close(average[name], 0.1 * first[name] + 0.9 * value)


def test_duties_of_the_users_have_no_default():
    for missing in DUTIES:
        with pytest.raises(TypeError, match=missing):
            DPSGDHigh(records=500, **{k: v for k, v in DUTIES.items() if k != missing})
    with pytest.raises(TypeError, match="records"):
        DPSGDHigh(**DUTIES)


def test_what_cannot_be_is_refused(data):
    with pytest.raises(UsageError, match="at least 2048 `records`"):
        DPSGDMedium(records=2000, **DUTIES)
    with pytest.raises(UsageError, match="delta"):
        DPSGDHigh(records=500, delta=2.0, adjacency="ADD_OR_REMOVE_ONE")
    with pytest.raises(NotPrivateError, match="mixup"):
        update_of(Mixup(inner=DPSGDHigh(records=64, **DUTIES)), data)
    with pytest.raises(UsageError, match="no decay to warm up"):
        replace(TASK, ema_warmup=True)
