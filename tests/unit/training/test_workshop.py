"""A course of trainings that is cut off anywhere ends with the same weights, and repeats no stage that was finished."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.audit.branches import branch_notices
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.private_whitening import PrivateWhitening
from sfumato.defences.residual_perturbation import ResidualPerturbation
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, SfumatoError, UnsupportedModel, UsageError
from sfumato.models.features.base import Features
from sfumato.models.mlp import MLP
from sfumato.models.residual_net import ResidualNet
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.defence import Defence
from sfumato.training.extras import Extra
from sfumato.training.loop import Hooks
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.recipe import Recipe
from sfumato.training.refusals import refuse_unheeded
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import time_steps, train
from sfumato.training.workshop import Workshop

DOUBLE = LoopOptions(dtype=torch.float64)
ROWS = np.arange(3, 33)
WORK = [Assignment(ROWS, 5)]
EPOCHS = 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=(x[:, 0] > 0).astype(int) + (x[:, 1] > 0))


def task(**changes):
    numbers = {"model": MLP(hidden=(6,), dropout=0.3), "epochs": EPOCHS, "batch_size": 8}
    return Task(**(numbers | {"optimizer": Optimizer(lr=0.05)} | changes))


class Stop(Exception):
    """Ends a training where the process could have been killed."""


@dataclass(frozen=True, kw_only=True)
class Course(Defence):
    """Test only: a teacher, answers of a second one, a loop with an optimiser of its own, a student with a hook."""

    name: ClassVar[str] = "test-course"
    branches: ClassVar[tuple[str, ...]] = ("low", "high")

    @property
    def trainings(self):
        return 4.0

    def objective(self, seen, inner):
        losses = inner(seen)
        high = seen.mean(losses) > 1.0
        seen.count("high", high)
        seen.count("low", ~high)
        return losses

    def course(self, workshop):
        first = workshop.fit("first", workshop.network("first"))
        rows = workshop.fit_rows
        answers = workshop.answers_after("second", workshop.network("second"), rows[:9], rows=rows[9:], epochs=2)
        targets = workshop.targets.clone()
        targets[rows[:9]] = torch.softmax(answers, dim=1)
        probe = nn.Linear(3, 3).to(workshop.x.dtype)
        nn.init.zeros_(probe.weight)
        nn.init.zeros_(probe.bias)
        network = workshop.network()
        optimizer = workshop.optimizer(list(network.parameters()))
        beside = workshop.optimizer(list(probe.parameters()), Optimizer(name="adam", lr=0.01))

        def epoch(number):
            draws, losses = workshop.draws.at("epoch", number), []
            for rows, streams in workshop.batches(workshop.fit_rows, draws):
                seen = workshop.seen(network, workshop.batch(rows, streams), streams, number, EPOCHS)
                told = probe(workshop.outputs(first, rows))
                workshop.descend(nn.functional.cross_entropy(told, seen.targets), beside)
                losses.append(workshop.descend(workshop.objective(seen).mean(), optimizer))
            return sum(losses) / len(losses)

        kept = {"probe": probe, "optimizer": optimizer, "beside": beside}
        network = workshop.loop("third", network, kept, EPOCHS, epoch)

        def backward(step):
            loss = (workshop.objective(step.seen) + probe(step.seen.outputs).square().sum(dim=1)).mean()
            loss.backward()
            return loss

        return workshop.fit("fourth", network, targets=targets, lr=0.01, hooks=Hooks(backward=backward))


TOTAL = 4 * EPOCHS - 1
PRIVATE = DPSGD(
    sample_rate=0.25,
    expected_batch_size=8,
    steps=12,
    delta=1e-3,
    adjacency="ADD_OR_REMOVE_ONE",
    noise_multiplier=1.0,
    input_mean=0.0,
    input_std=1.0,
)


def equal(one, other):
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(other.state[name], value) for name, value in one.state.items())
    assert other.history == one.history
    assert (other.epochs, other.tallies) == (one.epochs, one.tallies)


def stopping(at):
    def told(epoch):
        if epoch.epoch == at:
            raise Stop

    return told


@pytest.fixture(scope="module")
def whole(data):
    return train(task(), Course(), data, WORK, DOUBLE)[0]


@pytest.mark.parametrize("at", range(1, TOTAL + 1))
def test_a_course_that_is_cut_off_after_any_epoch_ends_with_the_same_weights(data, tmp_path, whole, at):
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    with pytest.raises(Stop):
        train(task(), Course(), data, WORK, replace(options, on_epoch=stopping(at)))
    begun = []
    again = train(task(), Course(), data, WORK, replace(options, on_epoch=begun.append))[0]
    equal(whole, again)
    last_of_a_stage = at in (EPOCHS, 2 * EPOCHS - 1, 3 * EPOCHS - 1, TOTAL)  # its end was not kept yet: one epoch more
    assert begun[0].epoch == (at if last_of_a_stage else at + 1)
    assert [epoch.epoch for epoch in begun] == list(range(begun[0].epoch, TOTAL + 1))
    assert all(epoch.epochs == 4 * EPOCHS for epoch in begun)


@dataclass(frozen=True, kw_only=True)
class CutOff(Course):
    """Stops between stages."""

    name: ClassVar[str] = "test-course"
    after: str = ""

    def course(self, workshop):
        keep, after = workshop.stages.through, self.after

        def through(stage, run):
            found = keep(stage, run)
            if stage == after:
                raise Stop
            return found

        workshop.stages.through = through
        return super().course(workshop)


@pytest.mark.parametrize(("after", "first"), [("first", 4), ("second", 6), ("third", 9), ("fourth", None)])
@pytest.mark.parametrize("every", [0.0, 1000.0])
def test_finished_stages_are_never_repeated_however_seldom_checkpoints_are_written(
    data, tmp_path, whole, after, first, every
):
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=every))
    with pytest.raises(Stop):
        train(task(), CutOff(after=after), data, WORK, options)
    begun = []
    equal(whole, train(task(), Course(), data, WORK, replace(options, on_epoch=begun.append))[0])
    assert (begun[0].epoch if begun else None) == first
    options.checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_by_the_user_is_no_different(data, tmp_path, whole):
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))

    def interrupted(epoch):
        if epoch.epoch == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task(), Course(), data, WORK, replace(options, on_epoch=interrupted))
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())
    equal(whole, train(task(), Course(), data, WORK, options)[0])


def test_a_stage_whose_file_is_damaged_is_done_again(data, tmp_path, whole):
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    train(task(), Course(), data, WORK, options)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    equal(whole, train(task(), Course(), data, WORK, options)[0])


def test_every_stage_is_in_the_history_and_counted(whole):
    assert [event.purpose for event in whole.history.events] == [
        "ordinary training, up to 3 epochs, in the course of test-course",
        "first, up to 3 epochs",
        "second, up to 2 epochs, and its answers on 9 training records",
        "third, 3 epochs",
        "fourth, up to 3 epochs",
    ]
    assert whole.epochs == TOTAL
    assert sum(whole.tallies.values()) == pytest.approx(3 * 4 + 2 * 3 + 3 * 4 + 3 * 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("standardise", [False, True])
def test_the_weights_load_into_the_network_of_the_recipe(data, dtype, standardise):
    recipe = Recipe(task(standardise=standardise), Course())
    trained = recipe.fit(data, WORK, LoopOptions(dtype=dtype))[0]
    assert trained.state.keys() == recipe.network(trained, data).state_dict().keys()
    assert all(value.dtype == dtype for value in trained.state.values())
    assert torch.isfinite(recipe.predictor(trained, data)(data.tensor(ROWS))).all()
    if standardise:
        np.testing.assert_allclose(trained.state["0.mean"], data.records.array[ROWS].mean(0), atol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Pairs(Features):
    """Test only: the first two columns and their product."""

    name: ClassVar[str] = "test-pairs"

    def shape(self, record):
        return (3,)

    def __call__(self, x):
        return torch.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1]], dim=1).float()


def test_behind_fixed_features_a_course_sees_features_and_its_weights_load(data):
    recipe = Recipe(task(features=Pairs()), Course())
    trained = recipe.fit(data, WORK, DOUBLE)[0]
    assert trained.state["1.weight"].shape == (6, 3)
    logits = recipe.predictor(trained, data)(data.tensor(ROWS))
    network = recipe.network(trained, data)
    torch.testing.assert_close(logits, network(Pairs()(data.tensor(ROWS)).double()))


@dataclass(frozen=True, kw_only=True)
class Runs(Defence):
    """Test only: a course that is a function."""

    name: ClassVar[str] = "test-runs"
    hosts_update: ClassVar[bool] = True
    run: object = None

    def course(self, workshop):
        return self.run(workshop)


def run(course, data, numbers=None, inner=None, options=DOUBLE):
    return train(numbers or task(), Runs(run=course, inner=inner), data, WORK, options)[0]


def test_networks_of_other_names_differ_but_for_the_fitted_scaling(data):
    def course(workshop):
        own, again, other = workshop.network(), workshop.network(), workshop.network("other")
        assert all(torch.equal(v, own.state_dict()[k]) for k, v in again.state_dict().items())
        assert torch.equal(other.state_dict()["0.mean"], own.state_dict()["0.mean"])
        assert not torch.equal(other.state_dict()["1.1.weight"], own.state_dict()["1.1.weight"])
        return own

    run(course, data, task(standardise=True))


def test_a_single_stage_is_the_training_under_the_name_of_the_stage(data):
    def alone(workshop):
        return workshop.fit("only", workshop.network())

    def other(workshop):
        return workshop.fit("another", workshop.network())

    one, again, two = run(alone, data), run(alone, data), run(other, data)
    assert torch.equal(one.state["1.weight"], again.state["1.weight"])
    assert not torch.equal(one.state["1.weight"], two.state["1.weight"])


def test_validation_keeps_to_the_labels_and_the_best_epoch_is_kept(data):
    wild = task(epochs=40, optimizer=Optimizer(lr=0.3), schedule="constant", model=MLP(hidden=(6,)))

    def course(workshop):
        nothing = torch.zeros_like(workshop.targets)
        nothing[workshop.fit_rows] = workshop.targets[workshop.fit_rows]
        return workshop.fit("only", workshop.network(), targets=nothing)

    def plain(workshop):
        return workshop.fit("only", workshop.network())

    stopper = EarlyStopping(patience=2, validation_fraction=0.3)
    stopped, as_before = run(course, data, wild, stopper), run(plain, data, wild, stopper)
    assert stopped.epochs < 40
    assert torch.equal(stopped.state["1.weight"], as_before.state["1.weight"])


def test_layers_that_draw_when_asked_draw_the_same_after_an_interruption(data, tmp_path):
    """A course may run its networks by hand; which numbers they draw must not hang on what this process has run."""
    answers = []

    def course(workshop):
        network, x = workshop.network(), workshop.x[workshop.fit_rows]
        answers.append(network.eval()(x).detach())
        network = workshop.fit("only", network, epochs=1)
        answers.append(network(x).detach())
        return workshop.loop("after", network, {}, 1, lambda epoch: 0.0)

    numbers = task(model=ResidualNet(width=8, blocks=2))
    inner = ResidualPerturbation.example()
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    with pytest.raises(Stop):
        run(course, data, numbers, inner, replace(options, on_epoch=stopping(2)))
    run(course, data, numbers, inner, options)
    assert torch.equal(answers[0], answers[2])
    assert torch.equal(answers[1], answers[3])


def test_an_average_of_weights_ends_up_in_the_network(data):
    found = {}

    def course(workshop):
        network = workshop.fit("only", workshop.network())
        found["weight"] = network.state_dict()["1.weight"].clone()
        return network

    averaged, last = run(course, data, task(ema=0.9)), run(course, data, task())
    assert not torch.equal(averaged.state["1.weight"], last.state["1.weight"])
    assert torch.equal(found["weight"], last.state["1.weight"])


def test_parameters_without_gradient_stay_in_ordinary_and_in_private_steps(data):
    def course(workshop):
        network = workshop.network()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        frozen, weight = next(network.named_parameters())
        weight.requires_grad_(False)
        for stage, protected in (("ordinary", False), ("private", True)):
            workshop.fit(stage, network, protected=protected, lr=0.1)
            moved = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
            assert frozen not in moved
            assert len(moved) == len(before) - 1
        return network

    run(course, data, inner=PRIVATE)


def private_course(workshop):
    network = workshop.fit("ordinary", workshop.network(), epochs=2)
    return workshop.fit("private", network, protected=True)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("front", [False, True])
def test_private_steps_inside_resume_and_leave_no_guarantee(data, tmp_path, at, front):
    inner = PrivateWhitening(inner=PRIVATE) if front else PRIVATE
    whole = run(private_course, data, inner=inner)
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    with pytest.raises(Stop):
        run(private_course, data, inner=inner, options=replace(options, on_epoch=stopping(at)))
    begun = []
    equal(whole, run(private_course, data, inner=inner, options=replace(options, on_epoch=begun.append)))
    assert begun[0].epoch == (at if at > 1 else at + 1)  # the private loop tells of an epoch before it keeps it
    assert "ordinary steps beside the private ones" in whole.guarantee_statement
    assert any(event.private for event in whole.history.events)


@dataclass(frozen=True, kw_only=True)
class Counts(Defence):
    """Test only: an objective that counts a branch."""

    name: ClassVar[str] = "test-counts"
    branches: ClassVar[tuple[str, ...]] = ("taken",)

    def objective(self, seen, inner):
        seen.count("taken", torch.ones(len(seen.outputs), dtype=torch.bool))
        return inner(seen)


def test_nobody_says_that_a_branch_was_never_taken_where_private_steps_do_not_count(data):
    def course(workshop):
        return workshop.fit("private", workshop.network(), protected=True)

    defence = Counts(inner=PRIVATE)
    assert branch_notices("it", defence, [run(course, data, inner=defence).facts()]) == []
    assert branch_notices("it", defence, [run(lambda w: w.network(), data).facts()]) != []


def test_a_release_goes_on_behind_the_layer_that_it_began_with(data, tmp_path):
    layers = []

    def course(workshop):
        layers.append(workshop.run.front.state_dict()["matrix"].clone())
        return private_course(workshop)

    inner, path = PrivateWhitening(inner=PRIVATE), tmp_path / "running.safetensors"
    options = replace(DOUBLE, release=True, checkpoint=Checkpoint(path, "key", every=1000))
    with pytest.raises(Stop):
        run(course, data, inner=inner, options=replace(options, on_epoch=stopping(1)))
    trained = run(course, data, inner=inner, options=options)
    anew = run(course, data, inner=inner, options=replace(options, checkpoint=None))
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])  # its noise is the operating system's
    assert torch.equal(trained.state["0.matrix"].double(), layers[0].double())
    assert not torch.equal(anew.state["0.matrix"], trained.state["0.matrix"])


def test_private_steps_are_taken_once_and_only_by_the_plan(data):
    def twice(workshop):
        return workshop.fit("again", private_course(workshop), protected=True)

    def hooked(**hooks):
        return lambda workshop: workshop.fit("private", workshop.network(), protected=True, hooks=Hooks(**hooks))

    def never(workshop):
        return workshop.fit("ordinary", workshop.network())

    kinds = (
        {"before": lambda rows, draws, done: None},
        {"backward": lambda step: None},
        {"kept": {"a": nn.Linear(1, 1)}},
    )
    hooks = [(hooked(**kind), "hooks") for kind in kinds]
    for course, what in ((twice, "once"), *hooks, (never, "took none")):
        with pytest.raises(UsageError, match=what):
            run(course, data, inner=PRIVATE)


def test_a_private_update_in_a_course_that_does_not_host_it_is_refused(data):
    with pytest.raises(NotPrivateError, match="dpsgd and test-course"):
        train(task(), Course(inner=PRIVATE), data, WORK, DOUBLE)


def test_a_ledger_for_the_private_steps_alone_is_refused(data):
    class Charge:
        def step(self):
            raise AssertionError

    with pytest.raises(NotPrivateError, match="ledger"):
        run(private_course, data, inner=PRIVATE, options=replace(DOUBLE, charge=Charge()))


@dataclass(frozen=True, kw_only=True)
class Offset(Defence):
    """Test only: an extra parameter that is drawn at random and told of."""

    name: ClassVar[str] = "test-offset"
    told: object = None

    def extra(self, features, classes):
        return Extra(nn.Linear(classes, classes), Optimizer(lr=0.1))

    def objective(self, seen, inner):
        layer = seen.extras[self.name]
        self.told.append(layer.weight.detach().clone())
        return inner(seen.having(layer(seen.outputs), seen.targets))


def test_extra_parameters_begin_anew_in_each_stage(data):
    def course(workshop):
        for stage in ("one", "two"):
            network = workshop.fit(stage, workshop.network(), epochs=1)
        return network

    told, again = [], []
    trained = run(course, data, inner=Offset(told=told))
    run(course, data, inner=Offset(told=again))
    assert len(told) == 8
    assert not torch.equal(told[0], told[4])
    assert not torch.equal(told[0], told[3])
    assert all(torch.equal(one, other) for one, other in zip(told, again, strict=True))
    assert not [name for name in trained.state if "extra" in name]


def test_a_course_that_steps_by_itself_refuses_what_it_would_leave_out(data):
    def course(workshop):
        refuse_unheeded(workshop.task, workshop.run.defence, Undefended())
        return workshop.network()

    for numbers, inner, what in (
        (task(ema=0.5), None, "ema"),
        (task(), EarlyStopping(patience=2, validation_fraction=0.3), "patience"),
        (task(), Offset(told=[]), "test-offset"),
    ):
        with pytest.raises(UsageError, match=what):
            run(course, data, numbers, inner)


def test_the_l1_penalty_reaches_single_steps(data):
    def course(workshop):
        network = workshop.network()
        optimizer = workshop.optimizer(list(network.parameters()))
        workshop.descend(0.0 * network(workshop.x[workshop.fit_rows]).sum(), optimizer)
        return network

    numbers = task(model=MLP(hidden=(6,)), optimizer=Optimizer(lr=0.1, momentum=0.0, l1=0.5))
    before = run(lambda workshop: workshop.network(), data, numbers).state["1.weight"]
    after = run(course, data, numbers).state["1.weight"]
    torch.testing.assert_close(after, before - 0.05 * before.sign())


def test_records_of_others_are_refused(data):
    def trains(workshop):
        return workshop.fit("only", workshop.network(), rows=torch.tensor([3, 0]))

    def asks(workshop):
        return workshop.outputs(workshop.network(), torch.tensor([39]))

    def steps(workshop):
        return workshop.batch(torch.tensor([1, 2]), workshop.draws)

    for course in (trains, asks, steps):
        with pytest.raises(UsageError, match="own training set"):
            run(course, data)


def empty(workshop):
    return workshop.fit("only", workshop.network(), rows=torch.zeros(0, dtype=torch.int64))


def same_name(workshop):
    return workshop.fit("only", workshop.fit("only", workshop.network()))


def few_targets(workshop):
    return workshop.fit("only", workshop.network(), targets=workshop.targets[:2])


def reserved(workshop):
    return workshop.loop("only", workshop.network(), {"network": workshop.network()}, 1, lambda epoch: 0.0)


def other_layers(workshop):
    return nn.Linear(5, 3)


@pytest.mark.parametrize(
    ("course", "what"),
    [
        (empty, "got none"),
        (same_name, "name of its own"),
        (few_targets, "all 40 records"),
        (reserved, "other names"),
        (other_layers, "other layers"),
    ],
)
def test_mistakes_in_a_course_are_errors(data, course, what):
    with pytest.raises(UsageError, match=what):
        run(course, data)


def test_a_loop_whose_loss_is_not_finite_is_an_error(data):
    with pytest.raises(SfumatoError, match="finite"):
        run(lambda w: w.loop("only", w.network(), {}, 2, lambda epoch: float("nan")), data)


def test_a_loop_starts_each_epoch_in_train_mode_and_ends_in_eval_mode(data):
    modes = []

    def course(workshop):
        network = workshop.network().eval()

        def epoch(number):
            modes.append(network.training)
            workshop.outputs(network, workshop.fit_rows)
            network.eval()
            return 0.0

        network = workshop.loop("only", network, {}, 2, epoch)
        modes.append(network.training)
        return network

    run(course, data)
    assert modes == [True, True, False]


def test_units_are_those_of_the_population(data):
    people = replace(data, unit=Unit("patient", np.arange(40) // 4))
    work = [Assignment(np.arange(8, 32), 5)]
    workshop = Workshop(prepare(task(), Undefended(), people, work, DOUBLE), DOUBLE)
    assert workshop.units(workshop.fit_rows).tolist() == (np.arange(8, 32) // 4).tolist()


def test_several_models_are_refused_for_a_stack(data):
    with pytest.raises(UnsupportedModel, match="one model at a time with test-course"):
        train(task(), Course(), data, [*WORK, Assignment(ROWS, 6)], DOUBLE)


def test_plans_count_all_trainings_of_a_course(data):
    times = time_steps(task(), Course(), data, WORK, DOUBLE, 0.0)
    assert (times.steps, times.epochs) == (4, 4 * EPOCHS)
    alone = time_steps(task(), PRIVATE, data, WORK, DOUBLE, 0.0)

    @dataclass(frozen=True, kw_only=True)
    class Twice(Runs):
        name: ClassVar[str] = "test-twice"
        trainings: ClassVar[float] = 2.0

    inside = time_steps(task(), Twice(run=private_course, inner=PRIVATE), data, WORK, DOUBLE, 0.0)
    assert inside.epochs == 2 * alone.epochs


@dataclass(frozen=True, kw_only=True)
class FittedGuard(Defence):
    """Test only: a guard that is trained in a loop."""

    name: ClassVar[str] = "test-guard"

    def fit_guard(self, workshop, network):
        workshop.note("guard asked")
        value = nn.Parameter(torch.zeros(1, dtype=workshop.x.dtype))
        holder = nn.Module()
        holder.register_parameter("value", value)
        optimizer = workshop.optimizer([value])
        target = workshop.outputs(network, workshop.fit_rows).mean()

        def epoch(number):
            return workshop.descend((value - target).square().sum(), optimizer)

        workshop.loop("guard", holder, {"optimizer": optimizer}, 3, epoch)
        return {"value": value.detach()}


@pytest.mark.parametrize("inner", [None, PRIVATE, PrivateWhitening(inner=PRIVATE)])
@pytest.mark.parametrize("at", [2, 4, 6])
def test_a_fitted_guard_resumes_behind_its_training_and_tells_what_it_read(data, tmp_path, inner, at):
    defence = FittedGuard(inner=inner)
    whole = train(task(), defence, data, WORK, DOUBLE)[0]
    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    begun = []

    def stop(epoch):
        begun.append(epoch)
        if len(begun) == at:
            raise Stop

    with pytest.raises(Stop):
        train(task(), defence, data, WORK, replace(options, on_epoch=stop))
    again = train(task(), defence, data, WORK, options)[0]
    equal(whole, again)
    assert torch.equal(whole.guards["test-guard/value"], again.guards["test-guard/value"])
    purposes = [event.purpose for event in again.history.events if not event.private]
    assert {"guard asked", "test-guard: guard fitted to the answers on the training records"} <= set(purposes)
