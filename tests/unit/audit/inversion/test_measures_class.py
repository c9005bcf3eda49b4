"""Guesses whose leak is known: training records themselves, class averages, noise, and guesses of the wrong class."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.audit.inversion.guesses import ClassGuesses
from sfumato.audit.inversion.measures import NAMES, class_measures
from sfumato.audit.inversion.measures_class import among_best
from sfumato.audit.inversion.seen import Seen
from sfumato.data.owners import PLANTED, TRUE_CLASS
from sfumato.data.population import Population, Unit
from sfumato.errors import UsageError
from sfumato.training.recipe import ModulePredict

CLASSES, EACH, WIDTH, IMAGES = 6, 20, 8, 4


def halves(rng, targets, n):
    """Complementary halves, equal in each class."""
    first = np.zeros((targets // 2, n), bool)
    for row in first:
        for label in range(CLASSES):
            own = np.flatnonzero(np.arange(n) % CLASSES == label)
            row[rng.permutation(own)[: len(own) // 2]] = True
    return np.stack([first, ~first], axis=1).reshape(targets, n)


def guesses_of(world, of, targets=2, seed=0):
    rng = np.random.default_rng(seed)
    trained = halves(rng, targets, len(world.population))
    labels = np.tile(np.arange(CLASSES), (targets, 1))
    records = np.stack([np.stack([of(rng, t, int(y), trained[t]) for y in labels[t]]) for t in range(targets)])
    return ClassGuesses(records.astype(np.float32), labels, trained)


def measured(world, of, **more):
    found = class_measures(guesses_of(world, of, **more), world.population, world.judge, world.settings)
    return {one.name: one for one in found}


def training_records(world):
    rows = world.population.tensor(np.arange(len(world.population))).numpy()
    labels = world.population.label_array

    def of(rng, _, label, trained):
        return rows[rng.permutation(np.flatnonzero(trained & (labels == label)))[:IMAGES]]

    return of


def centres(world):
    return lambda rng, _t, label, _r: world.centres[label] + 0.1 * rng.normal(size=(IMAGES, WIDTH))


def noise(_world):
    return lambda rng, *_: 3 * rng.normal(size=(IMAGES, WIDTH))


def test_training_records_leak_at_both_levels(world):
    found = measured(world, training_records(world))
    assert found["looks_accuracy"].attacked.value == 1
    assert found["looks_accuracy"].difference.low > 0.5
    assert found["evaluator_accuracy_1"].attacked.value > 0.9
    assert found["evaluator_accuracy_1"].difference.low > 0.5  # of 6 classes, whatever the number of guesses
    assert found["class_distance"].attacked.value == pytest.approx(0, abs=1e-6)
    assert found["class_distance"].difference.low > 0
    assert found["record_distance"].attacked.value == pytest.approx(0, abs=1e-6)
    assert found["record_distance"].difference.low > 0
    assert found["nearer_to_training"].attacked.value == 1
    assert found["nearer_to_training"].attacked.low > 0.5
    assert found["precision"].attacked.value == 1
    assert found["disputed_successes"].attacked.value == 0


def test_class_averages_leak_the_class_alone(world):
    found = measured(world, centres(world))
    assert found["evaluator_accuracy_1"].attacked.value == 1
    assert found["evaluator_accuracy_1"].attacked.low < 1  # six classes do not prove certainty
    assert found["class_distance"].difference.low > 0
    nearer = found["nearer_to_training"]
    assert nearer.attacked.low < 0.5 < nearer.attacked.high
    assert nearer.control.value == 0.5
    assert nearer.difference.value == pytest.approx(nearer.attacked.value - 0.5)


def test_noise_leaks_nothing(world):
    found = measured(world, noise(world))
    for name in ("looks_accuracy", "evaluator_accuracy_1", "class_distance", "record_distance", "nearer_to_training"):
        assert found[name].difference.low < 0 < found[name].difference.high


def test_a_class_filled_with_another_ones_records_is_no_success(world):
    other = training_records(world)
    found = measured(world, lambda rng, t, label, r: other(rng, t, (label + 1) % CLASSES, r))
    assert found["evaluator_accuracy_1"].attacked.value < 0.1
    assert found["looks_accuracy"].attacked.value == 0
    assert found["class_distance"].difference.value < 0


def test_every_measure_has_a_name_a_level_and_a_control(world):
    found = measured(world, centres(world))
    assert set(found) <= set(NAMES)
    levels = {name: one.level for name, one in found.items()}
    assert {name for name, level in levels.items() if level == "record"} == {"record_distance", "nearer_to_training"}
    for one in found.values():
        json.loads(one.model_dump_json())  # no NaN
        if one.level != "none":
            assert one.control_is
        if one.control is not None and one.difference is not None:
            sign = 1 if one.more == "higher" else -1
            assert one.difference.value == pytest.approx(sign * (one.attacked.value - one.control.value), abs=1e-9)


def test_successes_that_look_like_another_class_are_disputed(world):
    """The evaluator calls each class by the name of the one before."""
    network = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, CLASSES))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor(np.roll(world.centres, -1, axis=0), dtype=torch.float32))
        network[1].bias.zero_()
    judge = replace(world.judge, predict=ModulePredict(network.eval()))
    other = training_records(world)
    found = measured(world._replace(judge=judge), lambda rng, t, label, r: other(rng, t, (label + 1) % CLASSES, r))
    assert found["evaluator_accuracy_1"].attacked.value > 0.9
    assert found["disputed_successes"].attacked.value == 1
    assert found["disputed_successes"].attacked.low > 0.5
    assert found["disputed_successes"].control is None  # it gets no held-out record right
    assert found["disputed_successes"].level == "none"


def test_a_likeness_that_the_evaluator_cannot_see_is_found_by_looks(world):
    """An evaluator that gives one answer to everything off its data takes no guess for its class."""

    class Blind(nn.Module):
        def forward(self, x):
            return torch.eye(CLASSES)[torch.zeros(len(x), dtype=torch.long)]

    blind = replace(world.judge, predict=replace(world.judge.predict, module=nn.Sequential(Blind(), readout())))
    found = class_measures(guesses_of(world, centres(world)), world.population, blind, world.settings)
    found = {one.name: one for one in found}
    assert found["evaluator_accuracy_1"].difference.low <= 0
    assert found["looks_accuracy"].attacked.value == 1
    assert found["looks_accuracy"].difference.low > 0.5


def readout():
    last = nn.Linear(CLASSES, CLASSES, bias=False)
    last.weight.data = torch.eye(CLASSES)
    return last


def test_a_large_class_is_not_nearer_because_it_is_large(world):
    """Half of the records of all classes but one are left out: noise looks like that one no more often."""
    labels = world.population.label_array
    kept = np.flatnonzero((labels == 0) | (np.arange(len(labels)) < len(labels) // 4))
    few = world.population.take(kept)
    judge = replace(world.judge, population=few, held_out=world.judge.held_out[kept])
    rng = np.random.default_rng(3)
    records = (3 * rng.normal(size=(2, CLASSES, 200, WIDTH))).astype(np.float32)
    asked = np.tile(np.arange(CLASSES), (2, 1))
    inside = rng.random(len(few)) < 0.5
    seen = Seen(ClassGuesses(records, asked, np.stack([inside, ~inside])), judge, world.settings)
    equal, all_of_them = ((which == 0).mean() for which in (seen.nearest_of_equal, seen.nearest_class))
    assert all_of_them > 1.5 * equal
    counts = np.bincount(few.label_array, minlength=CLASSES)
    assert counts[0] == 4 * counts[1:].max()


def test_few_pairs_of_targets_have_as_many_draws_as_classes_and_pairs(world):
    """Guesses that are always nearer: the lower end is that of as many coins as splits were drawn."""
    for targets in (2, 4, 6):
        nearer = measured(world, training_records(world), targets=targets)["nearer_to_training"].attacked
        assert nearer.value == 1
        assert nearer.low == pytest.approx(0.025 ** (1 / (CLASSES * targets // 2)))
        assert "draws of a class's training records" in nearer.method
    many = measured(world, training_records(world), targets=8)["nearer_to_training"].attacked
    assert many.low == pytest.approx(0.025 ** (1 / CLASSES))  # pairs enough: it speaks of other classes and models


def test_only_successes_can_be_disputed(world):
    """Half of the guesses are records of the class, half of another one, which the evaluator does not fall for."""
    own = training_records(world)

    def mixed(rng, t, label, r):
        return np.concatenate([own(rng, t, label, r)[:2], own(rng, t, (label + 1) % CLASSES, r)[:2]])

    found = measured(world, mixed)
    assert 0.3 < found["evaluator_accuracy_1"].attacked.value < 0.7
    assert found["disputed_successes"].attacked.value < 0.1


def test_the_second_opinion_is_tried_on_records_that_the_evaluator_never_saw(world):
    control = measured(world, training_records(world))["disputed_successes"].control
    rows = np.flatnonzero(world.judge.held_out)
    labels, looks = world.population.label_array, world.judge.record_looks
    wrong = [
        labels[min((i for i in range(len(looks)) if i != row), key=lambda i: ((looks[i] - looks[row]) ** 2).sum())]
        != labels[row]
        for row in rows
        if world.judge.logits(world.population.tensor([row]).numpy()).argmax() == labels[row]
    ]
    assert control.value == pytest.approx(np.mean(wrong))


def test_records_with_a_planted_label_dispute_nothing(world):
    """Copies of the records held out, each with a planted wrong label, are their nearest records."""
    held = np.flatnonzero(world.judge.held_out)
    copies = np.flatnonzero(~world.judge.held_out)[: len(held)]
    records, labels = (
        world.population.tensor(np.arange(len(world.population))).numpy().copy(),
        world.population.label_array.copy(),
    )
    records[copies] = records[held]
    labels[copies] = (labels[held] + 1) % CLASSES
    planted = np.isin(np.arange(len(labels)), copies)
    groups = {PLANTED: np.where(planted, PLANTED, ""), TRUE_CLASS: world.population.label_array.astype(str)}
    population = replace(world.population, records=records, labels=labels, groups=groups)
    judge = replace(world.judge, population=population)
    found = class_measures(guesses_of(world, centres(world)), population, judge, world.settings)
    disputed = next(one for one in found if one.name == "disputed_successes")
    assert disputed.control.value < 0.3


def test_one_person_a_class_leaves_the_record_level_open(world):
    guesses = guesses_of(world, centres(world))
    trained = np.repeat((world.population.label_array < 3)[None], 2, axis=0)
    found = class_measures(replace(guesses, trained=trained), world.population, world.judge, world.settings)
    for one in found:
        if one.level == "record":
            assert not one.attacked.resolvable
            assert "units and classes coincide" in one.attacked.note


def test_classes_on_one_side_only_are_left_out(world):
    guesses = guesses_of(world, training_records(world))
    trained = guesses.trained | (world.population.label_array == 0)
    found = class_measures(replace(guesses, trained=trained), world.population, world.judge, world.settings)
    nearer = next(one for one in found if one.name == "nearer_to_training")
    assert nearer.attacked.value == 1


def test_one_class_has_no_other_to_compare_with(world):
    guesses = guesses_of(world, centres(world))
    one = ClassGuesses(guesses.records[:, :1], guesses.labels[:, :1], guesses.trained)
    found = {m.name: m for m in class_measures(one, world.population, world.judge, world.settings)}
    assert found["evaluator_accuracy_1"].control is None
    assert found["evaluator_accuracy_1"].attacked.low is None
    assert not found["class_distance"].attacked.resolvable


def test_recall_needs_more_guesses_than_neighbours(world):
    guesses = guesses_of(world, centres(world))
    few = ClassGuesses(guesses.records[:, :, :3], guesses.labels, guesses.trained)
    found = {m.name: m for m in class_measures(few, world.population, world.judge, world.settings)}
    assert not found["recall"].attacked.resolvable
    assert found["coverage"].attacked.resolvable


def test_the_five_best_of_five_say_nothing():
    assert among_best(np.array([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [False, True, True, False]


def test_fid_of_training_records_is_that_of_real_ones(world):
    good, bad = measured(world, training_records(world))["fid"], measured(world, noise(world))["fid"]
    assert good.attacked.value < bad.attacked.low
    assert good.attacked.low <= good.attacked.value <= good.attacked.high
    assert good.control.value > 0


def test_knowledge_is_what_guesses_teach(world):
    inversion = replace(world.settings.inversion, knowledge=True)
    world = world._replace(settings=replace(world.settings, inversion=inversion))
    found = measured(world, training_records(world), targets=2)["knowledge_accuracy"]
    assert found.attacked.value > 0.9
    assert found.difference.low > 0.3
    assert found.control.value < 0.5


def test_the_same_question_gives_the_same_answer(world):
    assert measured(world, noise(world)) == measured(world, noise(world))


def test_a_foreign_population_is_refused(world):
    other = Population(np.ones((4, WIDTH), np.float32), Unit("example"), labels=np.array([0, 1, 0, 1]))
    with pytest.raises(UsageError, match="own population"):
        class_measures(guesses_of(world, noise(world)), other, world.judge, world.settings)


def test_a_class_is_asked_about_once(world):
    guesses = guesses_of(world, noise(world))
    with pytest.raises(UsageError, match="distinct classes"):
        class_measures(
            replace(guesses, labels=np.zeros_like(guesses.labels)), world.population, world.judge, world.settings
        )
