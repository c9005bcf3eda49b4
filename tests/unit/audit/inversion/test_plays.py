from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.inversion.dlg import DLG
from sfumato.attacks.inversion.fredrikson import Fredrikson
from sfumato.audit.compare import jobs_for
from sfumato.audit.inversion.play_attribute import columns_asked, columns_hidden, players_of, values_of
from sfumato.audit.inversion.play_class import classes_asked, compared, nearest
from sfumato.audit.inversion.play_gradient import _joined, kinds_of_batches, rounds_asked
from sfumato.audit.inversion.scene import known_box
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.inversion.study import Workplace, scene_of, suspects
from sfumato.audit.settings import AuditSettings
from sfumato.data.owners import PLANTED, TRUE_CLASS
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotApplicable, UsageError
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.targets.surroundings import box_of
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task


def scene(tmp_path, population, attack=None, *, public=0.3, design="halves", **inversion):
    """A subject whose models are named, not trained."""
    asked = InversionSettings(attacks=(attack or DLG(),), **inversion)
    more = {"delta": 1e-3} if design == "coins" else {}
    settings = AuditSettings(attacks=(), models=2, public=public, design=design, inversion=asked, **more)
    membership, recipe = settings.membership(population), Recipe(Task(model=MLP(hidden=(4,)), epochs=1), Undefended())
    jobs, store = jobs_for(population, [recipe], membership, settings), Store(tmp_path)
    (one,) = suspects([recipe], jobs, population, membership, asked, store, print)
    return scene_of(one, population, None, membership, settings, Workplace(store))


@pytest.fixture
def table():
    """120 rows of 60 people: a coin, a number, a constant, a count, and noise."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 2, 120), rng.normal(size=120), np.ones(120), rng.integers(0, 9, 120), rng.random(120)]
    people = Unit("person", np.repeat(np.arange(60), 2))
    return Population(np.stack(columns, axis=1).astype(np.float32), people, labels=rng.integers(0, 3, 120))


# Classes


def test_classes_are_the_same_for_all_targets_and_only_those_that_were_trained_on():
    rng = np.random.default_rng(0)
    population = Population(rng.normal(size=(60, 2)).astype(np.float32), Unit("example"), labels=np.arange(60) % 6)
    half = rng.random(60) < 0.5
    asked = classes_asked(population, np.stack([half, ~half]), 3, seed=1)
    assert asked.shape == (2, 3)
    assert (asked[0] == asked[1]).all()
    assert (np.diff(asked[0]) > 0).all()
    assert len({tuple(classes_asked(population, half[None], 3, seed)[0]) for seed in range(20)}) > 3
    only = np.stack([population.label_array < 3, population.label_array >= 2])
    found = classes_asked(population, only, 0, seed=1)
    assert set(found[0]) == {0, 1, 2}
    assert set(found[1]) < {2, 3, 4, 5}  # three of its four, as many as the other has
    with pytest.raises(UsageError, match="labelled training records"):
        classes_asked(population, np.zeros((1, 60), dtype=bool), 0, seed=1)


def test_the_gallery_compares_equally_many_records_as_they_came():
    labels = np.arange(60) % 3
    population = Population(np.zeros((60, 2), dtype=np.float32), Unit("example"), labels=labels)
    trained = np.arange(60) < 40
    planted = np.arange(60) < 9
    population = replace(population, groups={PLANTED: np.where(planted, PLANTED, ""), TRUE_CLASS: labels.astype(str)})
    found = compared(population, trained, 1, seed=0)
    assert len(found.inside) == len(found.outside) == 7  # of the twenty records of the class seven were not trained on
    assert (labels[found.inside] == 1).all()
    assert (labels[found.outside] == 1).all()
    assert trained[found.inside].all()
    assert not trained[found.outside].any()
    assert not planted[found.inside].any()
    alone = compared(population, labels == 1, 1, seed=0)
    assert len(alone.inside) == len(alone.outside) == 17
    assert (labels[alone.outside] != 1).all()
    assert len(compared(population, np.ones(60, bool), 1, seed=0).outside) == 0


def test_nearest_record():
    records = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    assert nearest(records, np.array([0.4, 1.5])).tolist() == [0.0, 2.0]


# Attributes


def test_values_are_the_numbers_themselves_where_they_are_few_else_medians_of_equal_parts():
    coin = values_of(np.array([0.0, 1.0, 1.0, 0.0]), 4)
    assert coin.values.tolist() == [0.0, 1.0]
    assert coin.of(np.array([0.0, 0.4, 0.6, 1.0])).tolist() == [0, 0, 1, 1]
    even = values_of(np.arange(100.0), 4)
    assert even.values.tolist() == [12.0, 37.0, 62.0, 87.0]
    assert np.bincount(even.of(np.arange(100.0))).tolist() == [25, 25, 25, 25]
    skewed = values_of(np.array([0.0] * 90 + list(range(1, 11))), 4)  # most are 0: no interval may be empty
    assert np.bincount(skewed.of(np.array([0.0] * 90 + list(range(1, 11))))).min() > 0
    assert (np.diff(skewed.values) > 0).all()
    with pytest.raises(NotApplicable, match="one value only in column 7"):
        values_of(np.ones(9), 2, "column 7")


def test_as_many_members_as_others_are_asked_about_and_the_attackers_records_were_never_trained_on(tmp_path, table):
    for public in (0.3, 0.0):
        found = scene(tmp_path, table, Fredrikson(), public=public, records=15)
        for inside, one in zip(found.trained, players_of(found), strict=True):
            assert inside[one.asked].sum() == (~inside[one.asked]).sum() > 5
            assert not inside[one.public].any()
            units = table.unit_of
            assert not set(units[one.public]) & set(units[one.asked])
            assert len(one.public) >= 20
            assert found.in_game[one.asked].all()
        if public:
            assert found.set_aside[one.public].all()


def test_targets_of_different_sizes_are_asked_about_equally_many(tmp_path, table):
    found = scene(tmp_path, table, Fredrikson(), design="coins", records=1000)
    assert len({len(one.asked) for one in players_of(found)}) == 1


def test_too_few_records_of_the_population_are_a_reason(tmp_path, table):
    few = scene(tmp_path, table.take_units(np.arange(20)), Fredrikson(), public=0.0)
    with pytest.raises(NotApplicable, match="not trained on"):
        players_of(few)


def test_columns_are_named_or_drawn_from_those_that_vary(tmp_path, table):
    assert columns_hidden(scene(tmp_path, table, Fredrikson())) == [0, 1, 3, 4]
    assert columns_hidden(scene(tmp_path, table, Fredrikson(), attributes=(3, 1))) == [3, 1]
    with pytest.raises(UsageError, match="0 to 4"):
        columns_hidden(scene(tmp_path, table, Fredrikson(), attributes=(5,)))


def test_a_column_of_which_nothing_can_be_guessed_is_left_out_and_the_others_are_played(tmp_path, table):
    attack, reasons = Fredrikson(), []
    found = list(columns_asked(scene(tmp_path, table, attack, attributes=(2, 3), records=10), attack, reasons))
    assert [one.variant for one in found] == ["column 3"]
    assert len(reasons) == 1
    assert "column 2" in reasons[0]


def test_nearly_constant_columns_are_drawn_only_where_there_is_nothing_else(tmp_path, table):
    records = table.tensor(np.arange(len(table))).numpy().copy()
    records[:, [0, 1, 4]] = 0.0
    records[:3, [0, 1, 4]] = 1.0  # a few have another value
    rare = replace(table, records=ArrayRecords(records))
    assert columns_hidden(scene(tmp_path, rare, Fredrikson())) == [3]
    records[:, 3] = 2.0
    assert columns_hidden(scene(tmp_path, replace(table, records=ArrayRecords(records)), Fredrikson())) == [0, 1, 4]


def test_the_hidden_column_is_hidden_and_nothing_else(tmp_path, table):
    attack = Fredrikson()
    for one in columns_asked(scene(tmp_path, table, attack, attributes=(3,), records=10), attack, []):
        for players, evidence, truth in zip(one.players, one.evidence, one.truth, strict=True):
            true = table.tensor(players.asked).numpy()
            assert np.isnan(evidence.records[:, 3]).all()
            assert np.array_equal(np.delete(evidence.records, 3, axis=1), np.delete(true, 3, axis=1))
            assert len(evidence.values) <= 4
            assert np.abs(evidence.values[truth] - true[:, 3]).max() <= 2.5
            assert np.array_equal(evidence.labels, table.label_array[players.asked])
            known = table.tensor(players.public).numpy()[:, 3]
            assert evidence.public.fingerprint == table.take(players.public).fingerprint
            assert np.abs(evidence.values[evidence.public_values] - known).max() <= 2.5
            assert len(np.unique(evidence.public_values)) == len(evidence.values)


# Gradients


def test_batches_by_record_and_where_units_have_several_records_by_unit(tmp_path, table):
    found = scene(tmp_path, table, batches=(1, 4), steps=2)
    assert [one.variant for one in kinds_of_batches(found)] == ["batch of 1", "batch of 4", "all records of one person"]
    alone = scene(tmp_path, replace(table, unit=Unit("row")), batches=(2,), steps=2)
    assert [one.variant for one in kinds_of_batches(alone)] == ["batch of 2"]


def test_batches_that_are_too_large_are_a_reason_and_the_others_are_played(tmp_path, table):
    reasons: dict[str, list[str]] = {}
    found = list(rounds_asked(scene(tmp_path, table, batches=(2, 500), steps=2), reasons))
    assert [one.batches.variant for one in found] == ["batch of 2", "all records of one person"]
    assert len(reasons) == 1
    assert next(iter(reasons)).startswith("Expected more than")
    assert list(reasons.values()) == [["batch of 500"]]
    assert [len(one.evidence.sizes) for one in found[0].rounds] == [2, 2]
    inside = table.tensor(np.flatnonzero(scene(tmp_path, table).trained[0])).numpy()
    truth = found[0].rounds[0].truth.reshape(-1, 5)
    assert all((inside == row).all(axis=1).any() for row in truth)


def test_steps_of_different_widths_are_filled_up():
    joined = _joined([np.ones((1, 2, 3)), np.full((2, 1, 3), 2.0)], np.nan)
    assert joined.shape == (3, 2, 3)
    assert np.isnan(joined[1:, 1]).all()
    assert (joined[1:, 0] == 2).all()
    assert _joined([np.ones((1, 2), dtype=np.int64)], -1, 4).tolist() == [[1, 1, -1, -1]]


# Boxes


def test_the_range_of_values_is_public_knowledge_or_it_is_said_that_it_is_not(table):
    picture = Population(np.zeros((4, 1, 2, 2), dtype=np.float32), Unit("example"), labels=np.array([0, 1, 0, 1]))
    assert known_box(picture, None).box.high.max() == 1
    assert known_box(picture, None).known_from == ""
    half = table.take_units(np.arange(30))
    public = known_box(table, half)
    assert public.box.high.equal(box_of(half).high)
    assert "public records" in public.known_from
    own = known_box(table, None)
    assert own.box.high.equal(box_of(table).high)
    assert "more than an attacker may know" in own.known_from
