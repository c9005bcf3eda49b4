import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from sfumato.attacks.inversion.dlg import DLG
from sfumato.attacks.inversion.generators.catalogue import prior_named
from sfumato.attacks.inversion.gmi import GMI
from sfumato.attacks.inversion.miface import MIFace
from sfumato.attacks.inversion.planted_label import PlantedLabel
from sfumato.attacks.inversion.ppa import PPA
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import compare
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.plan import plan
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population, Unit
from sfumato.defences.undefended import Undefended
from sfumato.errors import SfumatoError, UsageError
from sfumato.execution.events import Notice, Started
from sfumato.execution.store import Store
from sfumato.integrations.sklearn import SklearnRecipe
from sfumato.models.mlp import MLP
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task

NETWORK = Recipe(Task(model=MLP(hidden=(4,)), epochs=1), Undefended(), "network")
TREE = SklearnRecipe(DecisionTreeClassifier(max_depth=2), name="tree")


def settings_of(*attacks, membership=(), targets=2):
    asked = InversionSettings(attacks=attacks, classes=2, steps=1, batches=(1, 2), targets=targets)
    return AuditSettings(attacks=membership, models=2, replicates=10, inversion=asked)


@pytest.fixture
def population():
    rng = np.random.default_rng(0)
    return Population(rng.normal(size=(80, 4)).astype(np.float32), Unit("row"), labels=rng.integers(0, 3, 80))


@pytest.mark.parametrize(
    ("recipe", "attacks", "why"),
    [
        (TREE, (DLG(),), "dlg on tree needs"),
        (TREE, (MIFace(), DLG()), "miface on tree needs access to weights, got scores only"),
        (NETWORK, (GMI(), PlantedLabel()), "planted-label on network needs records with planted labels"),
    ],
)
def test_a_run_that_could_attack_nothing_is_refused_before_anything_is_trained(
    population, tmp_path, recipe, attacks, why
):
    events, settings = [], settings_of(*attacks)
    with pytest.raises(UsageError, match=why) as caught:
        compare(population, [recipe], settings, Store(tmp_path), on_event=events.append)
    assert events == []
    assert "list attacks" in str(caught.value.remedy)
    with pytest.raises(UsageError, match=why):
        plan(population, [recipe], settings, Store(tmp_path))


def test_what_will_not_run_is_told_first_and_the_plan_says_it_too(population, tmp_path):
    events, settings = [], settings_of(DLG(iterations=1), PlantedLabel(), membership=(LossThreshold(),))
    run = compare(population, [TREE, NETWORK], settings, Store(tmp_path), executor="inline", on_event=events.append)
    begun = next(number for number, event in enumerate(events) if isinstance(event, Started))
    told = [event.text for event in events[:begun] if isinstance(event, Notice)]
    assert len(told) == 2
    assert told[0].startswith("Will not run: dlg on tree needs a single")
    assert told[1].startswith("Will not run: planted-label on tree, network needs records with planted labels")
    by_name = {subject.name: [one.attack for one in subject.not_run] for subject in run.record.subjects}
    assert {"dlg", "planted-label"} <= set(by_name["tree"])
    assert "dlg" not in by_name["network"]  # as told, and no more
    assert list(plan(population, [TREE, NETWORK], settings, Store(tmp_path)).refused) == told


def test_a_plan_refuses_what_the_run_would_refuse(population, tmp_path):
    with pytest.raises(UsageError, match="at most 2 targets"):
        plan(population, [NETWORK], settings_of(MIFace(), targets=3), Store(tmp_path))
    public = Population(np.zeros((8, 3), np.float32), Unit("row"), labels=np.arange(8) % 2)
    with pytest.raises(UsageError, match="shape"):
        plan(population, [NETWORK], settings_of(MIFace()), Store(tmp_path), public)


def test_a_generator_of_the_users_own_that_fails_is_refused_before_anything_is_trained(tmp_path):
    rng = np.random.default_rng(0)
    pictures, public = (
        Population(rng.random((40, 1, 8, 8), np.float32), Unit("row"), labels=np.arange(40) % 4, kind="image")
        for _ in range(2)
    )
    (tmp_path / "own.py").write_text("def make(shape):\n    raise RuntimeError('no licence')\n")
    events, settings = [], settings_of(PPA(prior=f"user-generator:{tmp_path / 'own.py'}:make"))
    with pytest.raises(SfumatoError, match="no licence"):
        compare(pictures, [NETWORK], settings, Store(tmp_path), public=public, on_event=events.append)
    assert events == []
    with pytest.raises(UsageError, match="got the file") as caught:
        prior_named("own.py:make")
    assert "user-generator:own.py:make" in str(caught.value.remedy)
