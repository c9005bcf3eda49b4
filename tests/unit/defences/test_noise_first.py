"""Records are released once with noise, and nothing behind the release sees anything else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.guarantee import Guarantee
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.randomised_response import RandomisedResponse
from sfumato.cli.promises import promises
from sfumato.data.population import Population, Unit
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.mixup import Mixup
from sfumato.defences.noise_first import NoiseFirst, answered
from sfumato.defences.private_whitening import PrivateWhitening
from sfumato.errors import NotPrivateError, SfumatoError, UsageError
from sfumato.models.linear import LinearModel
from sfumato.models.mlp import MLP
from sfumato.private.noise.seeded import SeededNoise
from sfumato.private.radius import WithinRadius
from sfumato.training import releases
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.composition import update_of
from sfumato.training.defence import Batch
from sfumato.training.preparation import Assignment, LoopOptions, foreseen, prepare
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

PLAIN = NoiseFirst(
    radius=2.0,
    delta=1e-5,
    adjacency="REPLACE_ONE",
    labels="public",
    noise_multiplier=3.0,
    input_mean=0.0,
    input_std=1.0,
)
RANDOMISED = replace(PLAIN, labels="randomised", label_epsilon=1.5)
TASK = Task(model=MLP(hidden=(4,)), epochs=2, batch_size=8, optimizer=Optimizer(lr=0.05))


def population(n=40, **more):
    rng = np.random.default_rng(0)
    x = 5 * rng.normal(size=(n, 3)).astype(np.float32)
    return Population(x, more.get("unit", "example"), labels=np.arange(n) % 4)


def fit(defence, data=None, task=TASK, models=1, **options):
    data = data or population()
    rows = np.arange(len(data) // 2)
    work = [Assignment(rows + m * len(rows), m) for m in range(models)]
    return Recipe(task, defence).fit(data, work, LoopOptions(**options))


def prepared(defence, data=None, task=TASK, models=1, **options):
    data = data or population()
    work = [Assignment(np.arange(20), m) for m in range(models)]
    return prepare(task, defence, data, work, LoopOptions(**options))


def clipped(data, radius=2.0):
    return WithinRadius(radius)(data.tensor(np.arange(len(data))))


def test_the_guarantee_is_that_of_the_release_alone():
    (model,) = fit(PLAIN, release=True)
    found = model.guarantee
    assert isinstance(found, Guarantee)
    one = Gaussian(noise_multiplier=3.0, steps=1, adjacency="REPLACE_ONE")
    assert found.mechanisms == (one,)
    assert found.epsilon == PLD().epsilon([one], 1e-5)
    assert found.unit == "example, its label public as declared"
    assert not found.audit_only


def test_more_epochs_cost_nothing():
    long = replace(TASK, epochs=9)
    assert fit(PLAIN)[0].guarantee == fit(PLAIN, task=long)[0].guarantee


def test_labels_through_randomised_response_are_composed_and_said():
    (model,) = fit(RANDOMISED)
    found = model.guarantee
    assert isinstance(found, Guarantee)
    assert found.mechanisms[1] == RandomisedResponse(label_epsilon=1.5, classes=4, steps=1, adjacency="REPLACE_ONE")
    assert found.epsilon == PLD().epsilon(found.mechanisms, 1e-5) > fit(PLAIN)[0].guarantee.epsilon
    assert found.unit == "example"
    assert "randomised response over 4 labels" in found.statement


def test_what_is_written_down():
    (model,) = fit(RANDOMISED)
    purposes = [event.purpose for event in model.history.events]
    assert purposes == ["noise-first: released once, before the first step"] * 2
    for event in model.history.events:
        assert event.mechanism["labels"] == "randomised"
        assert event.mechanism["radius"] == 2.0
        assert event.records == 20
    assert fit(PLAIN)[0].history.events[0].mechanism["labels"] == "public"


def test_seeded_noise_is_for_audits_only():
    assert fit(PLAIN)[0].guarantee.audit_only
    assert "must not be released" in fit(PLAIN)[0].guarantee_statement
    assert not fit(PLAIN, release=True)[0].guarantee.audit_only


def test_a_target_is_kept_by_both_together():
    target = replace(RANDOMISED, noise_multiplier=None, target_epsilon=6.0)
    found = fit(target)[0].guarantee
    assert isinstance(found, Guarantee)
    assert 0.98 * 6 <= found.epsilon <= 6
    more = replace(target, labels="public", label_epsilon=None)
    assert fit(more)[0].guarantee.mechanisms[0].noise_multiplier < found.mechanisms[0].noise_multiplier
    with pytest.raises(UsageError, match="target that can be kept"):
        replace(target, target_epsilon=1.4)


def test_the_arrays_of_the_loop_are_the_copies_and_nothing_else():
    data = population()
    run = prepared(PLAIN, data)
    assert run.x.shape == (20, 3)  # the other half of the population is not there at all
    noise = (run.x - clipped(data)[:20]) / 6.0
    assert 0.6 < float(noise.std()) < 1.4
    assert not bool((run.x == clipped(data)[:20]).any())
    assert run.fit_rows.tolist() == [list(range(20))]
    assert torch.equal(run.targets.argmax(1), torch.arange(20) % 4)  # declared public


def test_every_model_of_a_stack_has_noise_of_its_own_which_it_also_gets_alone():
    both, data = prepared(PLAIN, models=2), population()
    noise = [both.x[rows] - clipped(data)[:20] for rows in both.fit_rows]
    assert both.fit_rows.shape == (2, 20)
    assert not torch.allclose(noise[0], noise[1], atol=1.0)
    work = [Assignment(np.arange(20), 1)]
    alone = prepare(TASK, PLAIN, data, work, LoopOptions())
    assert torch.equal(alone.x, both.x[both.fit_rows[1]])


def test_a_release_is_never_repeated():
    first, second = (prepared(PLAIN, release=True).x for _ in range(2))
    assert not torch.allclose(first, second, atol=1.0)
    assert torch.equal(prepared(PLAIN).x, prepared(PLAIN).x)


def test_copies_are_independent_share_their_label_and_are_accounted_for():
    run = prepared(replace(RANDOMISED, copies=3))
    assert run.fit_rows.shape == (1, 60)
    x, y = run.x.reshape(3, 20, 3), run.targets.reshape(3, 20, 4)
    assert not torch.allclose(x[0], x[1], atol=1.0)
    assert torch.equal(y[0], y[1])
    assert torch.equal(y[0], y[2])
    found = fit(replace(PLAIN, copies=3))[0].guarantee
    assert found.epsilon == pytest.approx(
        PLD().epsilon([Gaussian(noise_multiplier=3 / 3**0.5, steps=1, adjacency="REPLACE_ONE")], 1e-5)
    )


def test_the_radius_holds_for_far_records():
    data = population()
    far = data.records.array.copy()
    far[0], far[1] = 1e30, 0.0
    quiet = replace(PLAIN, noise_multiplier=1e-6)
    run = prepared(quiet, replace(data, records=far))
    norms = torch.linalg.vector_norm(run.x, dim=1)
    assert float(norms.max()) <= 2.0 + 1e-4
    assert norms[:2].tolist() == pytest.approx([2.0, 0.0], abs=1e-4)


def test_public_scaling_comes_before_the_clip():
    data = population()
    scaled = replace(PLAIN, noise_multiplier=1e-6, input_mean=(1.0, 2.0, 3.0), input_std=10.0, radius=0.5)
    expected = WithinRadius(0.5)((data.tensor(np.arange(20)) - torch.tensor([1.0, 2.0, 3.0])) / 10.0)
    assert torch.allclose(prepared(scaled, data).x, expected, atol=1e-4)
    logged = replace(scaled, inputs="log", input_mean=0.0, input_std=1.0)
    raw = data.tensor(np.arange(20))
    assert torch.allclose(prepared(logged, data).x, WithinRadius(0.5)(raw.sign() * raw.abs().log1p()), atol=1e-4)


def test_queries_are_clipped_the_same_way_and_get_no_noise():
    data = population()
    recipe = Recipe(TASK, PLAIN)
    (model,) = fit(PLAIN, data)
    predict, x = recipe.predictor(model, data), data.tensor(np.arange(10))
    assert torch.equal(predict(x), predict(x))
    assert torch.allclose(predict(x), predict(WithinRadius(2.0)(x)), atol=1e-6)
    assert torch.allclose(predict(1e4 * x), predict(1e6 * x), atol=1e-5)
    assert not recipe.answers_at_random(data)


@pytest.mark.parametrize(
    ("around", "task"),
    [
        (lambda inner: EarlyStopping(patience=1, validation_fraction=0.25, inner=inner), TASK),
        (lambda inner: Mixup(inner=inner), TASK),
        (lambda inner: inner, replace(TASK, standardise=True)),
        (lambda inner: inner, replace(TASK, ema=0.9)),
    ],
    ids=["early stopping", "mixup", "standardise", "ema"],
)
def test_what_reads_the_copies_alone_keeps_the_guarantee(around, task):
    (model,) = fit(around(RANDOMISED), task=task)
    assert model.guarantee == fit(RANDOMISED)[0].guarantee
    assert len(model.history.events) == 2


def test_nothing_but_the_release_changes_with_a_record_that_the_release_forgets():
    """Another population under a release that ignores the records: the same weights, to the last bit."""

    class Forgets(NoiseFirst):
        def released(self, records, population, source):
            blank = Batch(torch.zeros_like(records.x), records.targets[:1].expand_as(records.targets))
            return super().released(blank, population, source)

    def weights(data):
        task = replace(TASK, standardise=True)
        defence = EarlyStopping(patience=3, validation_fraction=0.25, inner=Forgets(**vars(RANDOMISED)))
        return fit(defence, data, task)[0].state

    one, other = population(), population()
    changed = other.records.array[::-1] * 7 + 1
    other = replace(other, records=np.ascontiguousarray(changed), labels=np.append(0, other.labels[1:][::-1]))
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_standardisation_is_fitted_on_copies():
    run = prepared(PLAIN, task=replace(TASK, standardise=True))
    mean = next(value for name, value in run.stack.state(0).items() if name.endswith("mean"))
    assert torch.allclose(mean.flatten(), run.x.mean(0), atol=1e-5)


@pytest.mark.parametrize("release", [True, False])
def test_an_interrupted_training_goes_on_with_the_copies_it_began_with(tmp_path, release, monkeypatch):
    class Interrupted(Exception):
        pass

    def stop(epoch):
        if epoch.epoch == 2:
            raise Interrupted

    task = replace(TASK, epochs=4)
    used = []
    whole = releases.only_released
    monkeypatch.setattr(
        "sfumato.training.preparation.only_released", lambda *a, **k: used.append(whole(*a, **k)) or used[-1]
    )
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "key", every=0.0)
    with pytest.raises(Interrupted):
        fit(PLAIN, task=task, checkpoint=checkpoint, on_epoch=stop, release=release)
    (model,) = fit(PLAIN, task=task, checkpoint=checkpoint, release=release)
    assert torch.equal(used[0].x, used[1].x)
    assert torch.equal(used[0].targets, used[1].targets)
    assert model.epochs == 4
    assert len(model.history.events) == 1


def test_a_checkpoint_of_a_release_without_its_copies_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "key", every=0.0)
    checkpoint.save({"state.x": torch.zeros(1)}, {"epoch": [1]})
    with pytest.raises(NotPrivateError, match="released copies"):
        fit(PLAIN, checkpoint=checkpoint, release=True)


def test_a_private_update_beside_it_is_refused():
    for both in (replace(PLAIN, inner=DPSGD.example()), replace(DPSGD.example(), inner=PLAIN)):
        with pytest.raises(NotPrivateError, match="noise-first, which releases the records once, and dpsgd"):
            update_of(both, population())


def test_other_fitted_layers_and_a_second_release_are_refused():
    with pytest.raises(UsageError, match="one layer in front"):
        fit(PrivateWhitening(inner=PLAIN), population())
    with pytest.raises(UsageError, match="one release of the records"):
        fit(replace(PLAIN, inner=PLAIN))


def test_a_ledger_of_steps_is_refused():
    with pytest.raises(NotPrivateError, match="charged for all"):
        fit(PLAIN, charge=lambda *_: None)


def test_units_of_several_records_are_refused_unless_single_records_are_protected():
    patients = population(unit=Unit("patient", np.repeat(np.arange(20), 2)))
    with pytest.raises(NotPrivateError, match="several records of one patient"):
        fit(PLAIN, patients)
    found = fit(replace(PLAIN, level="example"), patients)[0].guarantee
    assert found.unit.startswith("example")
    single = population(unit=Unit("patient", np.arange(40)))
    assert fit(PLAIN, single)[0].guarantee.unit.startswith("patient")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"adjacency": "ADD_OR_REMOVE_ONE"}, NotPrivateError, "count them"),
        ({"labels": "randomised"}, UsageError, "label_epsilon"),
        ({"label_epsilon": 1.0}, UsageError, "label_epsilon"),
        ({"labels": "secret"}, UsageError, "labels"),
        ({"target_epsilon": 1.0}, UsageError, "target_epsilon"),
        ({"noise_multiplier": None}, UsageError, "noise_multiplier"),
        ({"noise_multiplier": 0.0}, UsageError, "noise_multiplier"),
        ({"radius": 0.0}, UsageError, "radius"),
        ({"delta": 0.0}, UsageError, "delta"),
        ({"copies": 0}, UsageError, "copies"),
        ({"noise": "laplace"}, UsageError, "noise"),
        ({"level": "record"}, UsageError, "level"),
        ({"inputs": "fitted"}, UsageError, "inputs"),
        ({"labels": "randomised", "label_epsilon": 0.0}, UsageError, "label_epsilon"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_at_construction(change, error, said):
    with pytest.raises(error, match=said):
        replace(PLAIN, **change)


@pytest.mark.parametrize("missing", ["radius", "delta", "adjacency", "labels"])
def test_what_is_the_users_duty_has_no_default(missing):
    given = {"radius": 1.0, "delta": 1e-5, "adjacency": "REPLACE_ONE", "labels": "public", "noise_multiplier": 1.0}
    with pytest.raises(TypeError, match=missing):
        NoiseFirst(**{name: value for name, value in given.items() if name != missing})


def test_a_part_set_to_zero_costs_half_the_distance():
    zero = replace(PLAIN, adjacency="REPLACE_SPECIAL")
    twice = replace(PLAIN, noise_multiplier=6.0)
    assert fit(zero)[0].guarantee.epsilon == pytest.approx(fit(twice)[0].guarantee.epsilon, rel=1e-3)


def test_records_shrink_by_what_the_rounding_of_the_noise_takes(monkeypatch):
    class Coarse:
        def add(self, sum_, std, source):
            return sum_

        def sensitivity_slack(self, parameters, std):
            return parameters * std / 36

    data = population()
    batch = Batch(clipped(data)[:20], torch.eye(4)[torch.arange(20) % 4])
    monkeypatch.setattr("sfumato.defences.noise_first.noise_named", lambda name: Coarse())
    found = PLAIN.released(batch, data, SeededNoise(1, "x"))
    assert torch.allclose(found.x, 0.75 * batch.x)  # 3 * 6 / 36 of a radius of 2
    with pytest.raises(NotPrivateError, match="rounding"):
        replace(PLAIN, noise_multiplier=12.0).released(batch, data, SeededNoise(1, "x"))


def test_discrete_noise_has_the_same_guarantee():
    grid = replace(PLAIN, noise="discrete-gaussian")
    assert fit(grid)[0].guarantee == fit(PLAIN)[0].guarantee
    noise = prepared(grid).x - clipped(population())[:20]
    assert 3 < float(noise.std()) < 9


def test_double_precision_trains_on_the_same_copies():
    single, double = prepared(PLAIN), prepared(PLAIN, dtype=torch.float64)
    assert double.x.dtype == torch.float64
    assert torch.allclose(double.x.float(), single.x, atol=1e-5)


def test_answers_have_the_law_of_randomised_response():
    targets, truth = torch.eye(3)[torch.zeros(60_000, dtype=torch.int64)], 0.4
    found = answered(targets, truth, SeededNoise(1, "law")).mean(0)
    assert found.tolist() == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    assert torch.equal(answered(targets[:9], 0.0, SeededNoise(2, "law")).sum(1), torch.ones(9))


def test_a_plan_says_what_the_weights_will_say():
    data = population()
    history = foreseen(TASK, RANDOMISED, data, None)
    assert [event.mechanism["kind"] for event in history.events] == ["gaussian", "randomised-response"]
    assert history.why_no_guarantee() is None


def test_an_ordinary_training_is_what_it_was():
    from sfumato.defences.undefended import Undefended

    (model,) = fit(Undefended())
    assert model.guarantee_statement.startswith("none, because of ordinary training")
    assert len(prepared(Undefended()).x) == 40


def test_parts_that_release_nothing_say_so_when_asked():
    with pytest.raises(UsageError, match="mixup, which has no `released`"):
        Mixup().released(Batch(torch.zeros(1, 1), torch.zeros(1, 2)), population(), SeededNoise(0, "x"))


def test_fixed_features_are_released_in_place_of_records():
    from sfumato.models.features.fixed_norm import FixedNorm

    task = replace(TASK, features=FixedNorm(norm=1.0), model=LinearModel())
    (model,) = fit(PLAIN, task=task)
    data = population()
    predict = Recipe(task, PLAIN).predictor(model, data)
    assert isinstance(model.guarantee, Guarantee)
    assert torch.allclose(predict(data.tensor(np.arange(3))), predict(5 * data.tensor(np.arange(3))), atol=1e-5)


def test_the_front_is_not_trained():
    front = PLAIN.front((3,))
    assert isinstance(front, nn.Sequential)
    assert list(front.parameters()) == []


def test_too_few_records_are_refused_as_ever():
    with pytest.raises(SfumatoError):
        fit(EarlyStopping(patience=1, validation_fraction=0.01, inner=PLAIN))


def test_a_plan_promises_what_the_release_keeps():
    recipe = Recipe(TASK, replace(RANDOMISED, noise_multiplier=None, target_epsilon=6.0))
    (promise,) = promises([recipe, Recipe(TASK, Mixup())], population())
    assert promise.calibrated
    assert 5.8 < promise.epsilon <= 6
    assert f"noise multiplier {promise.noise_multiplier:.6g} (calibrated)" in promise.text
    assert promise.delta == 1e-5


def test_one_number_from_a_command_line_scales_all_columns():
    data = population()
    listed = replace(PLAIN, input_mean=(1.0,), input_std=(2.0,))
    single = replace(PLAIN, input_mean=1.0, input_std=2.0)
    assert torch.equal(prepared(listed, data).x, prepared(single, data).x)
