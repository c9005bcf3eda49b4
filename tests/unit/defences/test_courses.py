"""What SELENA, MIST and distillation have in common: courses of several trainings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.accounting.guarantee import NoGuarantee
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.defences.distillation import Distillation
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.mist import MIST
from sfumato.defences.mixup import Mixup
from sfumato.defences.selena import SELENA
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.resnet import ResNet8
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import time_steps, train

OPTIONS = LoopOptions(dtype=torch.float64)
ROWS = np.arange(4, 36)
WORK = [Assignment(ROWS, 5)]
UNITS = np.arange(40) // 2
COURSES = {
    "selena": SELENA(sub_models=4, left_out=2),
    "mist": MIST(parts=3),
    "mist with memory": MIST(parts=2, reset=False, optimizers="kept", steps_fit=3, steps_difference=2),
    "distillation": Distillation(),
}
each = pytest.mark.parametrize("method", COURSES.values(), ids=COURSES)


class Stop(Exception):
    """Ends a training where the process could have been killed."""


def stopping(at):
    def told(epoch):
        if epoch.epoch == at:
            raise Stop

    return told


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    x = (rng.normal(size=(40, 5)) + 2 * labels[:, None]).astype(np.float32)
    return Population(ArrayRecords(x), Unit("pair", UNITS), labels=labels)


def task(**changes):
    numbers = {"model": MLP(hidden=(6,), dropout=0.2), "epochs": 4, "batch_size": 8}
    return Task(**(numbers | {"optimizer": Optimizer(lr=0.05)} | changes))


@each
def test_it_learns_answers_and_tells_its_history(data, method):
    recipe = Recipe(task(epochs=15, model=MLP(hidden=(6,)), optimizer=Optimizer(lr=0.2)), method)
    trained = recipe.fit(data, WORK, OPTIONS)[0]
    predicted = recipe.predictor(trained, data)(data.tensor(ROWS)).argmax(dim=1)
    assert (predicted.numpy() == data.labels[ROWS]).mean() > 0.9
    assert isinstance(trained.guarantee, NoGuarantee)
    assert f"in the course of {method.name}" in trained.guarantee_statement


@each
def test_it_resumes_bit_by_bit(data, tmp_path, method):
    whole = train(task(epochs=2), method, data, WORK, OPTIONS)[0]
    for at in range(1, whole.epochs + 1, max(1, whole.epochs // 4)):
        options = replace(OPTIONS, checkpoint=Checkpoint(tmp_path / f"{at}.safetensors", "key", every=0))
        with pytest.raises(Stop):
            train(task(epochs=2), method, data, WORK, replace(options, on_epoch=stopping(at)))
        again = train(task(epochs=2), method, data, WORK, options)[0]
        assert all(torch.equal(again.state[name], value) for name, value in whole.state.items())
        assert (again.history, again.epochs) == (whole.history, whole.epochs)


@each
def test_only_the_models_own_records_matter(data, method):
    x = data.records.array.copy()
    x[:4], x[36:] = 99, -99
    other = replace(data, records=ArrayRecords(x))
    one, two = (train(task(), method, d, WORK, OPTIONS)[0].state["1.weight"] for d in (data, other))
    assert torch.equal(one, two)


@each
def test_under_a_private_update_it_is_refused_with_the_reason(data, method):
    with pytest.raises(NotPrivateError, match=f"{method.name}, whose course reads the records outside any mechanism"):
        train(task(), replace(method, inner=replace(DPSGD.example(), max_records_per_unit=2)), data, WORK, OPTIONS)


@each
def test_two_courses_are_refused(data, method):
    with pytest.raises(UsageError, match="one claim on the update"):
        train(task(), replace(method, inner=Distillation()), data, WORK, OPTIONS)


@each
def test_the_objective_and_the_batches_of_the_chain_are_used(data, method):
    numbers = task(model=MLP(hidden=(6,)))
    plain = train(numbers, method, data, WORK, OPTIONS)[0].state["1.weight"]
    for inner in (LabelSmoothing(smoothing=0.5), Mixup()):
        wrapped = train(numbers, replace(method, inner=inner), data, WORK, OPTIONS)[0].state["1.weight"]
        assert not torch.equal(wrapped, plain)
    smoothing = LabelSmoothing(smoothing=0.5)
    inside = train(numbers, replace(method, inner=smoothing), data, WORK, OPTIONS)[0].state["1.weight"]
    outside = train(numbers, replace(smoothing, inner=method), data, WORK, OPTIONS)[0].state["1.weight"]
    assert torch.equal(inside, outside)


@each
def test_the_head_with_one_logit_is_taught_too(data, method):
    trained = train(task(head="binary", standardise=True), method, data, WORK, OPTIONS)[0]
    assert torch.isfinite(trained.state["1.1.weight"]).all()


@each
def test_networks_with_batch_normalisation_keep_whole_statistics(method):
    images = np.random.default_rng(0).normal(size=(24, 1, 8, 8)).astype(np.float32)
    population = Population(ArrayRecords(images), "example", labels=np.arange(24) % 2)
    numbers = task(model=ResNet8(norm="batch"), epochs=1, augmentation=("flip",))
    trained = train(numbers, method, population, [Assignment(np.arange(24), 1)], LoopOptions())[0]
    fresh = numbers.model.build((1, 8, 8), 2).state_dict()
    assert {name: value.dtype for name, value in trained.state.items()} == {n: v.dtype for n, v in fresh.items()}
    assert all(torch.isfinite(value).all() for value in trained.state.values())
    moved = [name for name in fresh if "running_mean" in name and trained.state[name].abs().sum() > 0]
    assert len(moved) == sum("running_mean" in name for name in fresh)


@pytest.mark.parametrize(
    ("method", "trainings"),
    [
        (SELENA(), 16.0),
        (SELENA(sub_models=5, left_out=2), 4.0),
        (MIST(parts=4), 3.0),
        (MIST(parts=4, steps_difference=0), 1.0),
        (MIST(parts=2, steps_fit=4, steps_difference=2), 1 + 0.5 * 4 / 3),
        (Distillation(), 2 + 1 / 3),
    ],
)
def test_plans_know_what_it_costs(data, method, trainings):
    assert method.trainings == pytest.approx(trainings)
    times = time_steps(task(epochs=30), method, data, WORK, OPTIONS, 0.0)
    assert times.epochs == pytest.approx(30 * trainings, abs=1)


def test_selena_early_stopping_and_shares_of_epochs(data):
    stopper = EarlyStopping(patience=1, validation_fraction=0.3)
    method = SELENA(sub_models=3, left_out=1, sub_model_epochs=2, student_epochs=30, inner=stopper)
    numbers = task(optimizer=Optimizer(lr=0.5), schedule="constant")
    trained = train(numbers, method, data, WORK, OPTIONS)[0]
    assert trained.epochs < 3 * 2 + 30
    assert any("validation" in event.purpose for event in trained.history.events)


def test_selena_keeps_answers_and_no_sub_model(data, tmp_path):
    wide = task(model=MLP(hidden=(500,)), epochs=1)
    options = replace(OPTIONS, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    trained = train(wide, SELENA(sub_models=4, left_out=2), data, WORK, options)[0]
    weights = sum(value.numel() * value.element_size() for value in trained.state.values())
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert len(sizes) == 5
    assert max(sizes[:4]) < weights / 10


def test_selena_trains_no_sub_model_on_a_record_that_it_answers_for(data, monkeypatch):
    from sfumato.training.workshop import Workshop

    whole, seen = Workshop.answers_after, []

    def told(self, stage, network, asked, **rest):
        seen.append((set(UNITS[asked.numpy()]), set(UNITS[rest["rows"].numpy()])))
        return whole(self, stage, network, asked, **rest)

    monkeypatch.setattr(Workshop, "answers_after", told)
    train(task(epochs=1), SELENA(sub_models=5, left_out=2), data, WORK, OPTIONS)
    assert len(seen) == 5
    assert all(not asked & rows for asked, rows in seen)
    assert all(asked | rows == set(UNITS[ROWS]) for asked, rows in seen)
    assert sum(len(asked) for asked, _ in seen) == 2 * 16


def test_mist_refuses_what_it_would_leave_out(data):
    for numbers, inner, what in (
        (task(ema=0.9), None, "ema"),
        (task(), EarlyStopping(patience=2, validation_fraction=0.3), "patience"),
    ):
        with pytest.raises(UsageError, match=what):
            train(numbers, MIST(parts=2, inner=inner), data, WORK, OPTIONS)
    with pytest.raises(UsageError, match="16 units"):
        train(task(), MIST(parts=17), data, WORK, OPTIONS)


def test_mist_says_what_of_it_is_a_reconstruction():
    assert "no official code" in MIST.reconstruction
    assert MIST.canary == "mislabelled"
    assert SELENA.canary == "near-duplicate"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: SELENA(sub_models=1), "sub_models"),
        (lambda: SELENA(left_out=0), "left_out"),
        (lambda: SELENA(sub_models=5, left_out=5), "below `sub_models`"),
        (lambda: SELENA(sub_model_epochs=0), "sub_model_epochs"),
        (lambda: SELENA(student_epochs=0), "student_epochs"),
        (lambda: MIST(parts=1), "parts"),
        (lambda: MIST(weight=-1.0), "weight"),
        (lambda: MIST(steps_fit=0), "steps_fit"),
        (lambda: MIST(steps_difference=-1), "steps_difference"),
        (lambda: MIST(optimizers="new"), "optimizers"),
        (lambda: Distillation(alpha=1.5), "alpha"),
        (lambda: Distillation(temperature=0.0), "temperature"),
        (lambda: Distillation(teacher_epochs=0), "teacher_epochs"),
    ],
)
def test_numbers_out_of_range_are_refused(make, what):
    with pytest.raises(UsageError, match=what):
        make()
