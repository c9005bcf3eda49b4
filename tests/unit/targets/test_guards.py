from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.release import Release, audit_release
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.hamp import HAMP, noise_records, reordered
from sfumato.defences.memguard import MemGuard
from sfumato.errors import UsageError
from sfumato.execution.jobs import TrainJob
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.targets.asking import ask
from sfumato.targets.guards import behind_guards
from sfumato.targets.queries import QuerySet
from sfumato.training.composition import labels_pass
from sfumato.training.defence import Behind
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task
from sfumato.training.trained import Trained

FITTED = MemGuard(hidden=(4,), attack_epochs=2, max_steps=5)
BOTH = HAMP(inner=FITTED)
SEED = 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Population(ArrayRecords(rng.random((40, 5), np.float32)), "example", labels=rng.integers(3, size=40))


@pytest.fixture(scope="module")
def recipe():
    return Recipe(Task(model=MLP(hidden=(6,)), epochs=2), BOTH)


@pytest.fixture(scope="module")
def trained(data, recipe):
    return recipe.fit(data, [Assignment(np.arange(30), SEED)], LoopOptions())[0]


def asked(recipe, trained, data, queries=()):
    predict = recipe.predictor(trained, data)
    return ask(predict, recipe.defence, data, queries, SEED, guards=trained.guards)


def test_two_guards_stand_one_behind_the_other(data, recipe, trained):
    predict, draws, at = recipe.predictor(trained, data), Draws((SEED,), ("guard",)), ("none", 0, 0, 0)
    with torch.no_grad():
        logits = predict(data.tensor(np.arange(40)))
        got = behind_guards(BOTH, predict, (5,), trained.guards, draws, at)(logits)
        own = {name.removeprefix("memguard/"): value for name, value in trained.guards.items()}
        behind, streams = Behind(predict, (5,), own), draws.at("hamp", *at)
        inside = draws.at("memguard", *at)
        first = FITTED.guard(logits, inside, behind)
        noise = FITTED.guard(predict(noise_records("auto", 40, (5,), streams)), inside.at("behind"), behind)
    assert torch.equal(got, reordered(noise.log_softmax(1), first))
    assert torch.equal(got.argmax(1), logits.argmax(1))


def test_a_fitted_guard_is_saved_with_the_weights_and_answers_as_before(data, recipe, trained, tmp_path):
    trained.save(tmp_path / "m.safetensors")
    back = Trained.load(tmp_path / "m.safetensors")
    assert (
        sorted(back.guards)
        == sorted(trained.guards)
        == ["memguard/bias.0", "memguard/bias.1", "memguard/weight.0", "memguard/weight.1"]
    )
    assert not set(back.guards) & set(back.state)
    np.testing.assert_array_equal(asked(recipe, back, data).logits, asked(recipe, trained, data).logits)
    with pytest.raises(UsageError, match="attack network"):
        asked(recipe, replace(back, guards={}), data)


def test_new_queries_reach_the_guard_through_the_store(data, recipe, trained, tmp_path):
    store, more = Store(tmp_path), QuerySet("none", 2)
    job = TrainJob(recipe, data, np.arange(30), SEED)
    first = execute([job], store, executor="inline").results[0]
    np.testing.assert_array_equal(first.logits, asked(recipe, trained, data).logits)
    again = execute([job], store, executor="inline", queries=(more,))
    assert again.trained == 0
    later = again.results[0]
    table = asked(recipe, trained, data, [more]).scalars[more.key]
    for name, values in table.items():
        np.testing.assert_array_equal(later.scalars[more.key][name], values)


def test_white_box_queries_see_no_guard(data, recipe, trained):
    silent = QuerySet("none", 1, noise="off")
    assert silent.white_box
    bare = ask(recipe.predictor(trained, data), HAMP(modify_outputs=False), data, [silent], SEED)
    got = asked(recipe, trained, data, [silent])
    np.testing.assert_array_equal(got.scalars[silent.key]["logit"], bare.scalars[silent.key]["logit"])
    assert not np.array_equal(got.logits, bare.logits)


def test_a_walk_that_needs_labels_alone_does_not_bother_guards_that_keep_them(data, recipe, trained, monkeypatch):
    walk = QuerySet("none", 1, signal="boundary-distance", budget=60)
    assert labels_pass(BOTH)
    asked_all = asked(recipe, trained, data, [walk]).scalars[walk.key]["boundary_distance"]
    monkeypatch.setattr(MemGuard, "keeps_labels", False)
    assert not labels_pass(BOTH)
    through = asked(recipe, trained, data, [walk]).scalars[walk.key]["boundary_distance"]
    np.testing.assert_allclose(through, asked_all, rtol=1e-5)


def test_a_switched_off_guard_makes_no_answer_random(data):
    recipe = Recipe(Task(model=MLP(hidden=(6,)), epochs=1), HAMP(modify_outputs=False))
    assert not recipe.answers_at_random(data)
    assert replace(recipe, defence=HAMP()).answers_at_random(data)


def test_a_release_is_attacked_behind_its_guards(data, recipe, trained, tmp_path):
    members = np.arange(40) < 30
    settings = AuditSettings(attacks=(LossThreshold(),), models=4, replicates=20, fprs=(0.2,))
    release = Release(recipe, trained, members, name="m")
    record = audit_release(data, release, settings, Store(tmp_path), executor="inline").record
    assert record.subjects[0].attack("loss").finding("auc").value > 0
    with pytest.raises(UsageError, match="attack network"):  # the references are in the store, the guard is gone
        audit_release(
            data, replace(release, trained=replace(trained, guards={})), settings, Store(tmp_path), executor="inline"
        )
