from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.advreg import AdvReg, Attacker, attacker_loss, privacy_gain
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train
from sfumato.training.workshop import Workshop

TASK = Task(model=MLP(hidden=(5,)), epochs=3, batch_size=7, optimizer=Optimizer(lr=0.05), schedule="constant")
WORK, OPTIONS = [Assignment(np.arange(30), 1)], LoopOptions(dtype=torch.float64)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 3)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int))


def found(data, task=TASK, **settings):
    defence = AdvReg(**({"attacker_width": 128} | settings))
    return train(task, defence, data, WORK, OPTIONS)[0]


def same(first, second):
    return all(torch.equal(first.state[k], second.state[k]) for k in first.state)


class Counting(Workshop):
    """Writes down how many records the inner attacker asks about, and when."""

    def outputs(self, network, rows):
        self.asked = [*getattr(self, "asked", []), rows]
        return super().outputs(network, rows)


def asked(data, **settings):
    defence = AdvReg(**({"attacker_width": 128} | settings))
    shop = Counting(prepare(TASK, defence, data, WORK, OPTIONS), OPTIONS)
    defence.course(shop)
    return shop, shop.asked


@pytest.mark.parametrize(("variant", "beside"), [("alternating", 512), ("official", 128)])
def test_the_towers_have_the_published_sizes(variant, beside):
    sizes = [layer.weight.shape for layer in Attacker(100, 1024, variant).modules() if isinstance(layer, nn.Linear)]
    joined = [(512, 128), (256, 512), (128, 256), (64, 128), (1, 64)]
    assert sizes == [(1024, 100), (512, 1024), (64, 512), (beside, 100), (64, beside), *joined]


def test_the_official_attacker_begins_with_small_weights():
    torch.manual_seed(1)
    first = Attacker(10, 256, "official").logits[0]
    assert float(first.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert not first.bias.any()
    assert float(Attacker(10, 256, "alternating").logits[0].weight.detach().std()) > 0.1


def test_the_alternating_attacker_sees_sorted_logits_and_a_signed_label():
    torch.manual_seed(1)
    attacker = Attacker(3, 16, "alternating")
    label = torch.eye(3)[:1]
    given = []
    attacker.labels.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    first = attacker(torch.tensor([[3.0, 1.0, 2.0]]), label)
    assert given[0].tolist() == [[1.0, -1.0, -1.0]]
    assert torch.equal(first, attacker(torch.tensor([[1.0, 2.0, 3.0]]), label))
    official = Attacker(3, 16, "official")
    nn.init.normal_(official.logits[0].weight)
    assert not torch.equal(
        official.logits(torch.tensor([[3.0, 1.0, 2.0]])), official.logits(torch.tensor([[1.0, 2.0, 3.0]]))
    )


def test_each_attacker_step_sees_as_many_training_as_reference_records(data):
    shop, batches = asked(data)
    fit, reference = set(shop.fit_rows.tolist()), set(shop.reference_rows.tolist())
    for rows in batches:
        half = len(rows) // 2
        assert set(rows[:half].tolist()) <= fit
        assert set(rows[half:].tolist()) <= reference


def test_alternating_gives_the_attacker_an_epoch_ahead_of_each_of_the_networks(data):
    steps = -(-21 // TASK.batch_size)
    _, batches = asked(data, warmup_passes=5)
    assert len(batches) == (5 + 2) * steps  # after the warm-up, and ahead of two epochs


def test_official_gives_the_attacker_steps_ahead_of_each_of_the_networks(data):
    steps = -(-21 // TASK.batch_size)
    _, batches = asked(data, variant="official", attacker_steps=4, warmup_passes=2)
    assert len(batches) == 2 * steps + 4 * 2 * steps


def test_the_attacker_is_not_felt_before_the_warm_up_is_over_nor_without_weight(data):
    two = replace(TASK, epochs=2)
    assert not same(found(data, two), found(data, two, weight=0.0))
    assert same(found(data, two, weight=0.0), found(data, two, weight=0.0, attacker_loss="mse", warmup_passes=1))


def test_the_loss_and_rate_are_the_variants_unless_given(data):
    plain, official = AdvReg(), AdvReg(variant="official")
    assert (plain.judged_by, plain.attacker_rate) == ("bce", 1e-3)
    assert (official.judged_by, official.attacker_rate) == ("mse", 1e-4)
    assert AdvReg(attacker_loss="mse", attacker_lr=0.5).attacker_rate == 0.5
    assert not same(found(data), found(data, attacker_loss="mse"))


def test_a_guess_of_one_half_costs_nothing():
    assert float(privacy_gain(torch.zeros(5), 3.0)) == 0.0
    assert float(privacy_gain(torch.full((5,), 50.0), 3.0)) == pytest.approx(1.5)


def test_the_attackers_loss_is_least_where_it_is_right():
    for kind in ("mse", "bce"):
        right, wrong = torch.tensor([9.0, 9.0, -9.0]), torch.tensor([-9.0, 9.0, -9.0])
        assert float(attacker_loss(right, 2, kind)) < 1e-3 < float(attacker_loss(wrong, 2, kind))


def test_too_few_epochs_are_refused(data):
    with pytest.raises(UsageError, match="more epochs than the 3"):
        found(data, warmup_epochs=3)


@pytest.mark.parametrize(
    "bad",
    [{"weight": -1.0}, {"variant": "other"}, {"attacker_steps": 0}, {"warmup_epochs": -1}, {"warmup_passes": -1},
     {"attacker_lr": 0.0}, {"attacker_loss": "hinge"}, {"attacker_width": 32}],
)  # fmt: skip
def test_ranges(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        AdvReg(**bad)
