from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.base import ClassInversion, Reconstructions
from sfumato.attacks.inversion.fredrikson import Fredrikson
from sfumato.attacks.inversion.miface import MIFace
from sfumato.attacks.inversion.planted_label import PlantedLabel
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import compare
from sfumato.audit.inversion import study
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.inversion.wording import TWO_LEVELS, UNIT_IS_CLASS
from sfumato.audit.release import Release, audit_release
from sfumato.audit.settings import AuditSettings
from sfumato.data.owners import with_owners
from sfumato.data.population import Population, Unit
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotApplicable, UsageError
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import FunctionRecipe, Recipe
from sfumato.training.task import Optimizer, Task

TASK = Task(model=MLP(hidden=(8,)), optimizer=Optimizer(lr=0.1), epochs=4, batch_size=16)
RECIPE = Recipe(TASK, Undefended())
SEEN: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Middle(ClassInversion):
    """Guesses the middle of the box, and tells whom it was asked about."""

    name: ClassVar[str] = "middle"
    threat_model: ClassVar[ThreatModel] = ThreatModel(access="scores", knowledge="Nothing.")
    reconstruction: ClassVar[str] = "made up for a test"

    images: int = 1

    def reconstruct(self, evidence, fitted=()):
        SEEN.append(evidence.oracle.name)
        evidence.oracle.scores(evidence.box.low[None])
        middle = ((evidence.box.low + evidence.box.high) / 2).numpy()
        records = np.tile(middle, (len(evidence.labels), self.images, 1)).astype(np.float32)
        return Reconstructions(records, np.zeros(records.shape[:2]), evidence.oracle.queries, facts={"steps": 3.0})


@dataclass(frozen=True, kw_only=True)
class Public(Middle):
    """Wants public records; called like an attack that does."""

    name: ClassVar[str] = "gmi"
    needs_public: ClassVar[bool] = True

    def reconstruct(self, evidence, fitted=()):
        if len(evidence.public_records) < 10:
            raise NotApplicable("found too few public records on the way")
        return super().reconstruct(evidence, fitted)


@dataclass(frozen=True, kw_only=True)
class White(Middle):
    """Wants weights; called like an attack that does."""

    name: ClassVar[str] = "ppa"
    threat_model: ClassVar[ThreatModel] = ThreatModel(access="weights", knowledge="")


def made_up(records=60, classes=3, width=5, seed=0, unit=None):
    rng = np.random.default_rng(seed)
    labels = np.arange(records) % classes
    x = (3 * np.eye(classes, width)[labels] + rng.normal(size=(records, width))).astype(np.float32)
    return Population(x, unit or Unit("example"), labels=labels, name="made up")


def settings_of(*attacks, membership=(), models=2, **inversion):
    more = {"classes": 2, "steps": 2, "batches": (1, 2), "attributes": (0,), "records": 8, **inversion}
    return AuditSettings(
        attacks=membership,
        models=models,
        public=0.4,
        replicates=10,
        fprs=(0.2,),
        inversion=InversionSettings(attacks=attacks, **more),
    )


@pytest.fixture
def population():
    return made_up()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def one_judge(monkeypatch, world):
    """The evaluation model takes seconds to train; who judges is another room's test."""
    monkeypatch.setattr(study, "judge_for", lambda population, *_, **__: replace(world.judge, population=population))
    monkeypatch.setattr("sfumato.audit.inversion.play_class.class_measures", lambda *_: [])
    SEEN.clear()


def run(population, settings, store, *, recipes=(RECIPE,), **more):
    return compare(population, recipes, settings, store, executor="inline", **more).record


def test_every_attack_has_results_or_reasons_and_what_was_tested_is_left_out(population, store):
    record = run(population, settings_of(Middle(), White(), Public(), Fredrikson(), PlantedLabel()), store)
    (subject,) = record.subjects
    assert [one.name for one in subject.inversions] == ["middle", "ppa", "fredrikson"]
    assert {one.attack for one in subject.not_run} == {"gmi", "planted-label"}
    assert all(one.reasons for one in subject.not_run)
    assert subject.strongest == ""
    assert "membership inference" in record.not_tested
    assert not any("inversion" in line or "attribute" in line for line in record.not_tested)
    assert record.verdict.sentence.startswith("No membership attack was run.")
    assert not any("no attack could run" in line for line in record.verdict.against)


def test_what_was_asked_stands_in_the_result(population, store):
    record = run(population, settings_of(Middle(images=2)), store, recipes=[RECIPE, Recipe(TASK, Undefended(), "b")])
    for subject in record.subjects:
        (found,) = subject.inversions
        assert (found.targets, found.questions, found.guesses, found.queries) == (2, 4, 2, 0.5)
        assert found.seconds > 0
        assert "range of each column was taken from all records" in found.knowledge
        assert found.note == "Of the attack itself: steps 3."
        assert found.reconstruction == "made up for a test"
    assert record.inversion.inverted in (2, 3)
    assert (record.inversion.classes, record.inversion.public, record.inversion.unit) == (3, "", "example")
    assert TWO_LEVELS in record.notices
    assert any("made up for a test" in notice.text for notice in record.notices)


def test_a_second_run_reconstructs_and_loads_nothing_and_finds_the_same(population, store, monkeypatch):
    settings = settings_of(Middle(), White(), Public(), Fredrikson())
    first = run(population, settings, store)
    assert len(SEEN) == 4
    monkeypatch.setattr("sfumato.audit.inversion.targets.Target.oracle", lambda *_: pytest.fail("a model was loaded"))
    second = run(population, settings, store)
    assert len(SEEN) == 4
    assert second.design.trained == 0
    assert second.subjects[0].inversions == first.subjects[0].inversions  # their seconds, too
    assert second.subjects[0].not_run == first.subjects[0].not_run


def test_an_interrupted_run_goes_on_where_it_stopped(population, store, monkeypatch):
    ordinary = Middle.reconstruct

    def stopped(self, evidence, fitted=()):
        if SEEN:
            raise KeyboardInterrupt
        return ordinary(self, evidence, fitted)

    monkeypatch.setattr(Middle, "reconstruct", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(population, settings_of(Middle()), store)
    monkeypatch.setattr(Middle, "reconstruct", ordinary)
    run(population, settings_of(Middle()), store)
    assert len(SEEN) == len(set(SEEN)) == 2


def test_a_damaged_reconstruction_is_made_again(population, store):
    first = run(population, settings_of(Middle()), store)
    for path in store.root.glob("fits/*/*/arrays.npz"):
        path.write_bytes(b"damaged")
    second = run(population, settings_of(Middle()), store)
    assert len(SEEN) == 4
    assert second.subjects[0].inversions[0].questions == first.subjects[0].inversions[0].questions


@pytest.mark.parametrize("damage", [False, True])
def test_models_whose_weights_are_gone_or_damaged_are_trained_once_more_and_it_is_said(population, tmp_path, damage):
    store = Store(tmp_path / "store", limit_bytes=10**9 if damage else 0)
    if damage:
        run(population, settings_of(White(), membership=(LossThreshold(),)), store)
        SEEN.clear()
        for path in store.root.glob("jobs/*/*/weights.safetensors"):
            path.write_bytes(b"damaged")
        settings = settings_of(White(images=2))
    else:
        settings = settings_of(White())
    record = run(population, settings, store)
    told = [notice.text for notice in record.notices if "trained once more for inversion" in notice.text]
    assert len(told) == 2
    assert ("cannot be used" if damage else "not in the store") in told[0]
    assert len(SEEN) == 2


def test_public_records_reach_only_attacks_that_declare_them(population, store):
    public = made_up(30, seed=5)
    record = run(population, settings_of(Middle(), Public()), store, public=public)
    names = [one.name for one in record.subjects[0].inversions]
    assert names == ["middle", "gmi"]
    assert (record.inversion.public, record.inversion.public_records) == ("made up", 30)
    assert "public records" in record.subjects[0].inversions[0].knowledge


def test_a_reason_found_on_the_way_reaches_the_record(population, store):
    record = run(population, settings_of(Public()), store, public=made_up(6, seed=5))
    (refused,) = record.subjects[0].not_run
    assert refused.reasons == ["found too few public records on the way"]


def test_a_function_of_the_users_gives_scores_only(population, store):
    def train(x, y, seed):
        return lambda points: points[:, :3]

    recipe = FunctionRecipe(train, "own", Undefended())
    record = run(population, settings_of(Middle(), White()), store, recipes=[recipe])
    assert [one.name for one in record.subjects[0].inversions] == ["middle"]
    assert record.subjects[0].not_run[0].reasons == ["needs access to weights, got scores only"]


def test_labels_that_owners_planted_are_guessed(store):
    population = with_owners(made_up(80), 4, 1)
    record = run(population, settings_of(PlantedLabel()), store)
    (found,) = record.subjects[0].inversions
    assert found.game == "label"
    assert found.questions == 2 * 12  # twelve of twenty owners are in the game
    assert found.measure("planted_label") is not None


def test_gradients_are_inverted_by_batch_and_by_unit(store):
    from sfumato.attacks.inversion.analytic_linear import AnalyticLinear

    population = made_up(80, unit=Unit("person", np.repeat(np.arange(40), 2)))
    record = run(population, settings_of(AnalyticLinear()), store)
    found = {one.variant: one for one in record.subjects[0].inversions}
    assert list(found) == ["batch of 1", "batch of 2", "all records of one person"]
    assert found["batch of 1"].questions == 4
    assert found["batch of 1"].measure("identified").attacked.value == 1.0  # one record, one linear layer: exact
    assert found["batch of 1"].access == "update"


def test_without_inversion_nothing_is_said_of_it(population, store):
    settings = replace(settings_of(Middle()), inversion=None, attacks=(LossThreshold(),))
    record = run(population, settings, store)
    assert record.inversion is None
    assert record.subjects[0].inversions == []
    assert "model inversion, attribute inference and reconstruction" in record.not_tested


def test_where_each_class_is_a_person_the_record_says_that_no_useful_guarantee_can_exist(store):
    population = made_up(80, classes=8, unit=Unit("person", np.arange(80) % 8))
    record = run(population, settings_of(Middle(), classes=0), store)
    assert record.inversion.unit_is_class
    assert UNIT_IS_CLASS in record.notices
    (found,) = record.subjects[0].inversions
    assert found.questions == 2 * 2  # only people that a model was trained on; 5 of 8 are in the game, 4 of them play


@pytest.mark.parametrize(
    ("change", "match"),
    [({"targets": 4}, "at most 2 targets"), ({"evaluator": "nonesuch"}, "evaluator")],
)
def test_what_cannot_work_is_refused_before_training(population, store, change, match):
    with pytest.raises(UsageError, match=match):
        run(population, settings_of(Middle(), **change), store)
    assert not store.keys()


def test_public_records_of_another_shape_are_refused_before_training(population, store):
    with pytest.raises(UsageError, match="shape"):
        run(population, settings_of(Middle()), store, public=made_up(width=4))
    assert not store.keys()


def test_a_released_model_is_inverted_itself(population, store):
    members = np.arange(60) < 24
    trained = RECIPE.fit(population, [Assignment(np.flatnonzero(members), 5)], LoopOptions())[0]
    release = Release(RECIPE, trained, members, name="ward")
    settings = settings_of(Middle(), MIFace(steps=5), membership=(LossThreshold(),))
    record = audit_release(population, release, settings, store, executor="inline").record
    (subject,) = record.subjects
    assert [one.targets for one in subject.inversions] == [1, 1]
    assert len(set(SEEN)) == 1
    assert record.inversion is not None


def test_measured_leakage_reaches_the_verdict(store):
    population = with_owners(made_up(120, classes=4, width=40), 4, 1)
    task = replace(TASK, epochs=60, batch_size=8)
    record = run(population, settings_of(PlantedLabel()), store, recipes=[Recipe(task, Undefended())])
    assert "undefended (record-level)" in record.verdict.sentence
    assert any("planted-label shows more of the training records" in line for line in record.verdict.against)
