import numpy as np
import pytest

from sfumato.attacks.inversion.attribute_inference import AttributeInferenceByScores
from sfumato.attacks.inversion.dlg import DLG
from sfumato.attacks.inversion.gmi import GMI
from sfumato.attacks.inversion.miface import MIFace
from sfumato.attacks.inversion.planted_label import PlantedLabel
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import compare, jobs_for
from sfumato.audit.inversion import planning, study
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.plan import plan
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population, Unit
from sfumato.defences.undefended import Undefended
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.recipe import FunctionRecipe, Recipe
from sfumato.training.task import Task

RECIPES = [Recipe(Task(model=MLP(hidden=(4,)), epochs=1), Undefended(), name) for name in "ab"]
ATTACKS = (MIFace(steps=3), GMI(), AttributeInferenceByScores(), DLG(iterations=1), PlantedLabel())


def settings_of(*attacks, membership=()):
    asked = InversionSettings(attacks=attacks, classes=2, steps=3, batches=(1, 2), attributes=(0, 1), records=9)
    return AuditSettings(attacks=membership, models=2, public=0.4, replicates=10, inversion=asked)


@pytest.fixture
def population():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    return Population(x, Unit("example"), labels=rng.integers(0, 3, 80))


def test_questions_are_counted_over_recipes_and_models_and_what_is_shared_once(population, tmp_path):
    found = plan(population, RECIPES, settings_of(*ATTACKS), Store(tmp_path))
    assert found.inversions == {
        "miface": 2 * 2 * 2,
        "gmi": 0,  # no public records
        "attribute-inference": 2 * 2 * 2 * 18,
        "dlg": 2 * 2 * 2 * 3,
        "planted-label": 0,  # nothing planted
    }
    assert found.inversion_fits == 4  # the population alone: one for each column and each set of records
    assert found.fits == 0
    assert plan(population, RECIPES, settings_of(MIFace()), Store(tmp_path)).inversion_fits == 0


def test_nothing_is_left_after_the_run_and_a_damaged_result_counts_again(population, tmp_path, monkeypatch, world):
    store, settings = Store(tmp_path), settings_of(MIFace(steps=3), DLG(iterations=1))
    monkeypatch.setattr(study, "judge_for", lambda *_, **__: world.judge)
    monkeypatch.setattr("sfumato.audit.inversion.play_class.class_measures", lambda *_: [])
    compare(population, RECIPES[:1], settings, store, executor="inline")
    assert plan(population, RECIPES[:1], settings, store).inversions == {"miface": 0, "dlg": 0}
    for path in tmp_path.glob("fits/*/*/arrays.npz"):
        path.write_bytes(b"damaged")
    assert plan(population, RECIPES[:1], settings, store).inversions == {"miface": 4, "dlg": 12}


def _own(x, y, seed):
    raise AssertionError("trained to plan")


def test_a_function_of_the_users_is_planned_without_being_run(population, tmp_path):
    settings, store = settings_of(MIFace(), AttributeInferenceByScores()), Store(tmp_path)
    membership, recipes = settings.membership(population), [FunctionRecipe(_own, "own", Undefended())]
    jobs = jobs_for(population, recipes, membership, settings)
    found = planning.planned_inversion(population, None, recipes, jobs, membership, settings, store)
    assert found.questions == {"miface": 0, "attribute-inference": 2 * 2 * 18}  # it is taken to give scores only


def test_without_inversion_nothing_is_planned(population, tmp_path):
    settings = AuditSettings(attacks=(), models=2, inversion=InversionSettings(attacks=(MIFace(),)))
    jobs = jobs_for(population, RECIPES, settings.membership(population), settings)
    none = planning.planned_inversion(
        population, None, RECIPES, jobs, settings.membership(population),
        AuditSettings(attacks=(LossThreshold(),), models=2), Store(tmp_path),
    )  # fmt: skip
    assert (none.questions, none.fits) == ({}, 0)
