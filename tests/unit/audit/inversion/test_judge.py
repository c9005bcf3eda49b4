from dataclasses import replace

import numpy as np
import pytest

from sfumato.audit.executing import executed
from sfumato.audit.inversion import judge as judge_module
from sfumato.audit.inversion.evaluator import SHARE, evaluator_preset, held_out
from sfumato.audit.inversion.judge import fair, judge_for, of_the_judge
from sfumato.data.owners import PLANTED, TRUE_CLASS
from sfumato.data.population import Population, Unit
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.execution.events import Attacking, Ended, EpochDone, JobDone, Notice, Started
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.models.resnet import ResNet8
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task


def recipe(model):
    return Recipe(Task(model=model), Undefended(), name=model.name)


def pictures(side=16, n=12):
    return Population(np.zeros((n, 1, side, side), np.float32), Unit("example"), labels=np.arange(n) % 3, kind="image")


def rows(n, unit=None, classes=3):
    labels = np.arange(n) % classes
    records = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    return Population(records, Unit("owner", None if unit is None else unit), labels=labels)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([SmallCNN()], "image-resnet8"),
        ([ResNet8()], "image-cnn"),
        ([ResNet8(), SmallCNN()], "residual-net"),
        ([], "image-resnet8"),
    ],
)
def test_the_evaluator_differs_from_every_target(models, expected):
    assert evaluator_preset(pictures(), [recipe(model) for model in models]).name == expected


def test_a_table_has_another_evaluator_than_its_default_network():
    assert evaluator_preset(rows(12), [recipe(MLP())]).name == "residual-net"


def test_pictures_that_are_too_small_for_one_network_get_another():
    assert evaluator_preset(pictures(side=3), [recipe(SmallCNN())]).name in ("residual-net", "table-mlp")


def test_an_evaluator_of_a_targets_kind_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match=r"another architecture.*image-cnn.*small-cnn.*Name another preset"):
        evaluator_preset(pictures(), [recipe(SmallCNN())], "image-cnn")
    with pytest.raises(UsageError, match="evaluator"):
        evaluator_preset(pictures(), [recipe(SmallCNN())], "no-such-preset")


def test_where_no_network_is_left_that_is_said():
    with pytest.raises(UsageError, match="Name another preset"):
        evaluator_preset(rows(12), [recipe(MLP()), recipe(evaluator_preset(rows(12), [recipe(MLP())]).model())])


def test_a_tenth_of_each_class_is_held_out():
    found = held_out(rows(300), np.random.default_rng(0))
    assert found.by_unit
    assert np.bincount(np.arange(300)[found.rows] % 3).tolist() == [10, 10, 10]


def test_whole_units_are_held_out_and_every_class_keeps_records():
    owners = np.arange(300) // 6  # two records of each of three classes
    found = held_out(rows(300, owners), np.random.default_rng(0))
    assert found.by_unit
    for owner in range(50):
        assert len(set(found.rows[owners == owner].tolist())) == 1
    assert 0 < found.rows.sum() <= 300 * SHARE + 3
    assert len(np.unique((np.arange(300) % 3)[~found.rows])) == 3


def test_one_person_a_class_holds_out_single_records():
    labels = np.arange(60) % 3
    found = held_out(rows(60, labels), np.random.default_rng(0))
    assert not found.by_unit
    assert np.bincount(labels[found.rows]).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("classes", "least"), [(2, 0.75), (10, 0.6), (40, 0.6)])
def test_a_fair_evaluator_is_well_above_chance(classes, least):
    assert fair(classes) == pytest.approx(least)


@pytest.fixture(scope="module")
def judged(world, tmp_path_factory):
    told, store = [], Store(tmp_path_factory.mktemp("store"))
    settings = replace(world.settings, inversion=replace(world.settings.inversion, evaluator="table-mlp"))
    others = [Recipe(evaluator_preset(world.population, [recipe(MLP())]).task(world.population), Undefended())]
    judge = judge_for(world.population, others, settings, store, executor="inline", on_event=told.append)
    again = judge_for(world.population, others, settings, store, executor="inline")
    return judge, again, told, settings, others


def test_the_judge_is_trained_tried_and_kept(judged, world):
    judge, again, told, *_ = judged
    assert judge.summary.name == "table-mlp"
    assert judge.summary.accuracy.value > 0.6
    assert judge.summary.accuracy.low < judge.summary.accuracy.value
    assert not judge.notices
    assert not [event for event in told if isinstance(event, Notice) and event.severity == "critical"]
    x = world.population.tensor(np.arange(9)).numpy()
    assert judge.logits(x).shape == (9, world.population.classes)
    assert np.array_equal(judge.logits(x), again.logits(x))
    assert judge.features(x).shape == (9, 64)
    assert np.allclose(judge.record_features[:9], judge.features(x), atol=1e-5)
    assert judge.logits(x[:0]).shape == (0, world.population.classes)


def test_the_accuracy_is_that_on_held_out_records(judged, world):
    judge = judged[0]
    held = np.flatnonzero(judge.held_out)
    said = judge.logits(world.population.tensor(held).numpy()).argmax(axis=1)
    assert judge.summary.accuracy.value == pytest.approx((said == world.population.label_array[held]).mean())
    assert 0.05 < judge.held_out.mean() < 0.15


def test_the_judge_learns_nothing_of_the_records_held_out(judged, world, tmp_path):
    judge, _, _, settings, others = judged
    changed = world.population.tensor(np.arange(len(world.population))).numpy().copy()
    x = changed[:9].copy()
    changed[judge.held_out] += 1
    population = replace(world.population, records=changed)
    again = judge_for(population, others, settings, Store(tmp_path), executor="inline")
    assert np.array_equal(again.held_out, judge.held_out)
    assert again.logits(x) == pytest.approx(judge.logits(x), abs=1e-5)


def test_the_second_opinion_of_a_private_record_is_its_own_class(judged, world):
    picked = np.arange(5, 11)
    found = judged[0].second_opinion(world.population.tensor(picked).numpy())
    assert found.tolist() == world.population.label_array[picked].tolist()


def test_a_poor_evaluator_is_announced(world, judged, tmp_path):
    told, settings, others = [], judged[3], judged[4]
    random = np.random.default_rng(0).permutation(world.population.label_array)
    judge = judge_for(
        replace(world.population, labels=random), others, settings, Store(tmp_path), executor="inline",
        on_event=told.append,
    )  # fmt: skip
    assert any("mean little" in event.text for event in told if isinstance(event, Notice))
    assert "mean little" in judge.notices[0].text
    assert "mean little" in judge.summary.note


def test_an_evaluator_that_answers_at_random_is_refused(world, tmp_path):
    settings = replace(world.settings, inversion=replace(world.settings.inversion, evaluator="sde-net"))
    with pytest.raises(UsageError, match="answers alike"):
        judge_for(world.population, [recipe(MLP())], settings, Store(tmp_path))


def with_wrong_labels(population):
    """A third of each class has a planted label, two classes on."""
    planted = np.arange(len(population)) // population.classes % 3 == 0
    true = population.label_array
    wrong = np.where(planted, (true + 2) % population.classes, true)
    groups = {PLANTED: np.where(planted, PLANTED, ""), TRUE_CLASS: true.astype(str)}
    return replace(population, labels=wrong, groups=groups), planted


def test_planted_labels_neither_teach_the_judge_nor_count_as_a_look(judged, world, tmp_path, monkeypatch):
    _, _, _, settings, others = judged
    population, planted = with_wrong_labels(world.population)
    taught = []
    monkeypatch.setattr(judge_module, "executed", lambda jobs, *rest: taught.extend(jobs) or executed(jobs, *rest))
    judge = judge_for(population, others, settings, Store(tmp_path), executor="inline")
    assert np.array_equal(taught[0].rows, np.flatnonzero(~judge.held_out & ~planted))
    records, true = world.population.tensor(np.flatnonzero(planted)).numpy(), world.population.label_array[planted]
    assert (judge.second_opinion(records) == true).mean() > 0.8  # each is the nearest to itself, with a wrong label


def test_the_training_of_the_judge_is_told_as_such_and_counts_as_no_model_of_the_run():
    told = []
    tell = of_the_judge(told.append)
    for event in (
        Started(1, 0, 0, 1),
        EpochDone("b", 1, 1, 9, 0.5),
        JobDone("k", "j", "trained", 1.0, "b"),
        Notice("critical", "Its verdicts mean little."),
        Ended("complete", 1, 0, 0, 0, 1.0),
    ):
        tell(event)
    assert [type(event) for event in told] == [Attacking, Notice]
    assert "judges" in told[0].text
