import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.mixup import Mixup
from sfumato.defences.undefended import Undefended
from sfumato.errors import SfumatoError, UnsupportedModel
from sfumato.models.build import build_seeded
from sfumato.models.mlp import MLP
from sfumato.models.small_cnn import SmallCNN
from sfumato.seeding import stream
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.preparation import Assignment, LoopOptions, assemble
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import time_steps, train

DOUBLE = LoopOptions(dtype=torch.float64)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int) + (x[:, 1] > 0))


ROWS = np.arange(3, 28)


def task(**changes):
    numbers = {"model": MLP(hidden=(6,)), "epochs": 4, "batch_size": 8, "optimizer": Optimizer(lr=0.05)}
    return Task(**(numbers | changes))


def naive(numbers, population, rows, seed):
    """Plain PyTorch: the same batches, torch's own loss, optimiser and schedule formula, one model."""
    network = build_seeded(numbers.model, population.records.shape, population.classes, seed).double()
    o = numbers.optimizer
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, o.lr, o.momentum, weight_decay=o.weight_decay, nesterov=o.nesterov),
        "adam": lambda p: torch.optim.Adam(p, o.lr, weight_decay=o.weight_decay),
        "adamw": lambda p: torch.optim.AdamW(p, o.lr, weight_decay=o.weight_decay),
    }[o.name](network.parameters())
    x = population.tensor(rows).double()
    y = torch.from_numpy(population.labels[rows])
    steps = math.ceil(len(rows) / numbers.batch_size)
    average = {k: v.clone() for k, v in network.state_dict().items()}
    for epoch in range(numbers.epochs):
        order = stream(seed, "training", "epoch", epoch, "order").permutation(len(rows))
        for step, batch in enumerate(np.array_split(order, steps)):
            done = (epoch + step / steps) / numbers.epochs
            factor = {
                "constant": 1.0,
                "cosine": (1 + math.cos(math.pi * done)) / 2,
                "step": 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
            }[numbers.schedule]
            optimizer.param_groups[0]["lr"] = o.lr * factor
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
            taken = epoch * steps + step
            keep = min(numbers.ema or 0, (1 + taken) / (10 + taken) if numbers.ema_warmup else 1)
            average = {k: keep * v + (1 - keep) * network.state_dict()[k] for k, v in average.items()}
    return average if numbers.ema is not None else network.state_dict()


@pytest.mark.parametrize(
    "numbers",
    [
        task(),
        task(schedule="step", optimizer=Optimizer(lr=0.05, nesterov=True, weight_decay=0.01)),
        task(schedule="constant", optimizer=Optimizer(name="adam", lr=0.01, weight_decay=0.1)),
        task(optimizer=Optimizer(name="adamw", lr=0.01, weight_decay=0.1), ema=0.9),
        task(ema=0.4, ema_warmup=True),
        task(batch_size=100, optimizer=Optimizer(momentum=0.0)),
    ],
)
def test_one_model_equals_a_naive_loop_with_the_same_draws(data, numbers):
    trained = train(numbers, Undefended(), data, [Assignment(ROWS, 5)], DOUBLE)[0]
    for name, value in naive(numbers, data, ROWS, 5).items():
        torch.testing.assert_close(trained.state[name], value, rtol=0, atol=1e-10)


def test_a_training_is_repeatable_and_depends_on_seed_and_rows(data):
    work = [Assignment(ROWS, 5), Assignment(ROWS, 6), Assignment(ROWS[1:], 5), Assignment(ROWS, 5)]
    first, seed, rows, again = (train(task(), Undefended(), data, [w], DOUBLE)[0].state["1.weight"] for w in work)
    assert torch.equal(first, again)
    assert not torch.equal(first, seed)
    assert not torch.equal(first, rows)


def test_only_the_rows_of_the_assignment_matter(data):
    x = data.records.array.copy()
    x[0], x[-1] = 99, -99
    other = replace(data, records=ArrayRecords(x))
    one, two = (
        train(task(), Undefended(), d, [Assignment(ROWS, 5)], DOUBLE)[0].state["1.weight"] for d in (data, other)
    )
    assert torch.equal(one, two)


def test_standardisation_is_fitted_on_the_training_rows_and_recorded(data):
    trained = train(task(standardise=True), Undefended(), data, [Assignment(ROWS, 5)], DOUBLE)[0]
    x = data.records.array[ROWS].astype(np.float64)
    np.testing.assert_allclose(trained.state["0.mean"], x.mean(0), atol=1e-6)
    np.testing.assert_allclose(trained.state["0.std"], x.std(0), atol=1e-6)
    assert "input standardisation fitted on the training set" in [e.purpose for e in trained.history.events]


def test_early_stopping_keeps_the_best_epoch_and_says_that_it_read_validation_records(data):
    wild = task(epochs=60, optimizer=Optimizer(lr=0.3), schedule="constant")
    stopped = train(wild, EarlyStopping(patience=2, validation_fraction=0.3), data, [Assignment(ROWS, 5)], DOUBLE)[0]
    assert stopped.epochs == min(60, stopped.best_epoch + 2)
    assert stopped.epochs < 60
    assert any("validation" in e.purpose for e in stopped.history.events)
    shorter = EarlyStopping(patience=2, validation_fraction=0.3)
    until_best = train(replace(wild, epochs=stopped.best_epoch), shorter, data, [Assignment(ROWS, 5)], DOUBLE)[0]
    assert torch.equal(until_best.state["1.weight"], stopped.state["1.weight"])


def test_a_validation_split_never_cuts_a_unit(data):
    from sfumato.data.view import PrivateView
    from sfumato.training.draws import Draws
    from sfumato.training.splitting import split_rows

    people = replace(data, unit=Unit("patient", np.arange(40) // 4))
    rows = np.arange(32)
    numbers = task(validation_fraction=0.25)
    fit, validation, reference = split_rows(numbers, 0.25, [PrivateView(people, rows)], Draws((1,), ("training",)))
    units = [set(people.unit_of[part[0]]) for part in (fit, validation, reference)]
    assert sum(map(len, units)) == len(set.union(*units))
    assert sorted([*fit[0].tolist(), *validation[0].tolist(), *reference[0].tolist()]) == rows.tolist()
    assert (len(validation[0]), len(reference[0])) == (8, 8)


class Stop(Exception):
    """Ends a training where the process could have been killed."""


@dataclass
class StopAfter:
    epochs: int

    def __call__(self, epoch):
        if epoch.epoch == self.epochs:
            raise Stop


@pytest.mark.parametrize(
    ("numbers", "defence"),
    [
        (task(epochs=6, ema=0.7, model=MLP(hidden=(6,), dropout=0.4)), Mixup()),
        (task(epochs=6, optimizer=Optimizer(name="adam", lr=0.05)), EarlyStopping(patience=4, validation_fraction=0.3)),
    ],
)
@pytest.mark.parametrize("models", [1, 3])
def test_training_resumed_from_a_checkpoint_is_the_same_bit_by_bit(data, tmp_path, numbers, defence, models):
    work = [Assignment(ROWS, seed) for seed in range(models)]
    whole = train(numbers, defence, data, work, DOUBLE)
    path = tmp_path / "running.safetensors"
    options = replace(DOUBLE, checkpoint=Checkpoint(path, "key", every=0))
    with pytest.raises(Stop):
        train(numbers, defence, data, work, replace(options, on_epoch=StopAfter(3)))
    assert path.exists()
    begun = []
    resumed = train(numbers, defence, data, work, replace(options, on_epoch=begun.append))
    assert begun[0].epoch == 4
    for one, other in zip(whole, resumed, strict=True):
        assert one.best_epoch == other.best_epoch
        assert all(torch.equal(other.state[name], value) for name, value in one.state.items())


def test_a_checkpoint_of_another_key_and_a_damaged_one_are_ignored(data, tmp_path):
    path = tmp_path / "running.safetensors"
    checkpoint = Checkpoint(path, "one", every=0)
    checkpoint.save({"w": torch.ones(2)}, {"epoch": [1.0]})
    assert torch.equal(checkpoint.load().tensors["w"], torch.ones(2))
    assert Checkpoint(path, "two").load() is None
    path.write_bytes(path.read_bytes()[:20])
    assert checkpoint.load() is None
    checkpoint.remove()
    assert not path.exists()
    assert checkpoint.load() is None


def test_checkpoints_are_not_written_more_often_than_asked(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", "key", every=1000)
    checkpoint.save({"w": torch.ones(2)}, {})
    assert not checkpoint.path.exists()


def test_a_loss_that_is_not_finite_is_an_error(data):
    with pytest.raises(SfumatoError, match="finite"):
        train(task(optimizer=Optimizer(lr=1e300)), Undefended(), data, [Assignment(ROWS, 1)], DOUBLE)


def test_training_sets_of_different_size_are_not_stacked(data):
    with pytest.raises(UnsupportedModel, match="one size"):
        train(task(), Undefended(), data, [Assignment(ROWS, 1), Assignment(ROWS[1:], 2)], DOUBLE)


def test_too_few_records_for_validation_are_refused(data):
    with pytest.raises(SfumatoError, match="validate"):
        train(task(), EarlyStopping(validation_fraction=0.1), data, [Assignment(ROWS[:3], 1)], DOUBLE)


def test_the_binary_head_needs_two_classes():
    with pytest.raises(UnsupportedModel, match="two classes"):
        assemble(task(head="binary"), Undefended(), (5,), 3, 1)


def test_timed_steps_leave_no_trace_and_count_the_work(data, tmp_path):
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "c", "key", every=0))
    times = time_steps(task(), Undefended(), data, [Assignment(ROWS, 5)], options, 0.0)
    assert (times.steps, times.epochs) == (4, 4)
    assert times.seconds == pytest.approx(times.setup + 16 * times.step)
    assert times.step > 0
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("kernel", ["loop", "grouped", "unfold"])
def test_every_kernel_of_a_stacked_convolution_gives_the_same_training(kernel):
    rng = np.random.default_rng(2)
    images = Population(
        ArrayRecords(rng.normal(size=(20, 2, 8, 8)).astype(np.float32)), "example", labels=np.arange(20) % 2
    )
    numbers = task(model=SmallCNN(), epochs=1)
    work = [Assignment(np.arange(16), seed) for seed in (1, 2)]
    alone = [train(numbers, Undefended(), images, [w], DOUBLE)[0] for w in work]
    names = {"0": kernel, "3": kernel}
    told = []
    stacked = train(numbers, Undefended(), images, work, replace(DOUBLE, kernels=names, on_kernels=told.append))
    assert told == [names]
    assert stacked[0].kernels == names
    for one, other in zip(alone, stacked, strict=True):
        for name, value in one.state.items():
            torch.testing.assert_close(other.state[name], value, rtol=0, atol=1e-10)
