from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.mixup import Mixup
from sfumato.defences.mixup_mmd import PULLED, MixupMMD, _Pull, class_matched, mmd2
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.sde.streams import set_progress, stream_layers
from sfumato.training.defence import Batch
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train
from sfumato.training.workshop import Workshop

TASK = Task(model=MLP(hidden=(5,)), epochs=4, batch_size=7, optimizer=Optimizer(lr=0.05), schedule="constant")
WORK, OPTIONS = [Assignment(np.arange(30), 1)], LoopOptions(dtype=torch.float64)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 3)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int))


def found(data, task=TASK, **settings):
    return train(task, MixupMMD(**settings), data, WORK, OPTIONS)[0]


def same(first, second):
    return all(torch.equal(first.state[k], second.state[k]) for k in first.state)


def test_samples_that_agree_have_no_discrepancy():
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert float(mmd2(x, x, (1.0, 2.0))) == pytest.approx(0, abs=1e-12)
    assert float(mmd2(x, x + 3, (1.0,))) > 0.1


def test_two_points_have_the_value_of_the_formula():
    """(1/n^2) sums of kernels: 1 + 1 - 2 exp(-d^2 / 2) for one point each."""
    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert float(mmd2(x, y, (5.0,))) == pytest.approx(2 - 2 * np.exp(-0.5))


def test_partners_are_of_the_same_class():
    labels, reference = torch.tensor([0, 2, 1, 0, 2, 0]), torch.tensor([2, 0, 0, 2, 3])
    seen = set()
    for seed in range(20):
        own, other = class_matched(labels, reference, Draws((seed,), ("x",)))
        assert own.tolist() == [0, 1, 3, 4, 5]  # nobody else is of class 1
        assert labels[own].tolist() == reference[other].tolist()
        seen |= set(other.tolist())
    assert seen == {0, 1, 2, 3}


def test_batches_are_mixed_as_mixup_mixes_them():
    batch, draws = Batch(torch.rand(6, 3), torch.eye(6)), Draws((1, 2), ("x",))
    for mine, theirs in zip(
        MixupMMD(alpha=0.4).transform(batch, draws), Mixup(alpha=0.4).transform(batch, draws), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_there_is_no_mmd_epoch_after_the_last(data):
    one = replace(TASK, epochs=1)
    assert same(found(data, one, weight=0.0), found(data, one, least_gap=0.0))
    assert not same(found(data, weight=0.0), found(data, least_gap=0.0))


def test_a_small_gap_leaves_the_mmd_epoch_out_and_is_counted(data):
    never = found(data, least_gap=1.0)
    assert same(never, found(data, weight=0.0))
    assert never.tallies == {PULLED: 0.0}
    steps = -(-21 // TASK.batch_size)
    assert found(data, least_gap=0.0).tallies == {PULLED: 3.0 * steps}  # ahead of all epochs but the first


def test_an_mmd_step_brings_the_answers_together(data):
    """One step of plain descent, seen on the very records that it was taken on."""
    task = replace(TASK, optimizer=Optimizer(lr=0.05, momentum=0.0))
    shop = Workshop(prepare(task, MixupMMD(), data, WORK, OPTIONS), OPTIONS)
    network, draws = shop.network().eval(), Draws((1,), ("x",))
    labels, theirs = (shop.targets[rows].argmax(1) for rows in (shop.fit_rows, shop.reference_rows))
    own, other = class_matched(labels, theirs, draws)

    def discrepancy():
        pairs = shop.fit_rows[own], shop.reference_rows[other]
        return float(mmd2(*(shop.outputs(network, rows).softmax(1) for rows in pairs), (1.0,)))

    before = discrepancy()
    pull = _Pull(MixupMMD(), shop, network, shop.optimizer(list(network.parameters())))
    pull._step(shop.fit_rows, draws, 1)
    assert discrepancy() < before


def test_an_mmd_epoch_leaves_layers_at_the_progress_of_the_step_that_follows(data):
    task = replace(TASK, model=MLP(hidden=(5,), dropout=0.3))
    shop = Workshop(prepare(task, MixupMMD(), data, WORK, OPTIONS), OPTIONS)
    network = shop.network()
    pull = _Pull(MixupMMD(least_gap=0.0), shop, network, shop.optimizer(list(network.parameters())))
    set_progress(network, 0.5)
    pull.before(shop.fit_rows[:7], Draws((1,), ("x",)), 0.5)
    assert pull.pulled
    assert [layer.progress for layer in stream_layers(network)] == [0.5]


def test_the_l1_penalty_holds_in_mmd_steps_too(data):
    task = replace(TASK, optimizer=Optimizer(lr=0.1, momentum=0.0, l1=0.5))
    shop = Workshop(prepare(task, MixupMMD(), data, WORK, OPTIONS), OPTIONS)
    network = shop.network().eval()
    before = network.state_dict()["1.weight"].clone()
    pull = _Pull(MixupMMD(weight=0.0), shop, network, shop.optimizer(list(network.parameters())))
    pull._step(shop.fit_rows, Draws((1,), ("x",)), 1)
    torch.testing.assert_close(network.state_dict()["1.weight"], before - 0.05 * before.sign())


@pytest.mark.parametrize(
    "bad", [{"weight": -1.0}, {"alpha": 0.0}, {"sigmas": ()}, {"sigmas": (0.0,)}, {"least_gap": 1.5}]
)
def test_ranges(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        MixupMMD(**bad)
