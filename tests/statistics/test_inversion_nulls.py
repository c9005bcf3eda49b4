"""Guesses that know nothing of the training records: intervals hold the control as often as they say.

Error rate: a 95 % interval may miss in so many of the simulated games that a sound one would miss more often with
probability below 1e-3 (binomial); seeds are fixed. Power is tested beside the unit tests of the measures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.inversion.guesses import AttributeGuesses, ClassGuesses, GradientGuesses, LabelGuesses
from sfumato.audit.inversion.judge import Judge
from sfumato.audit.inversion.measures import attribute_measures, gradient_measures, label_measures
from sfumato.audit.inversion.measures_class import (
    class_distance,
    evaluator_accuracy,
    nearer_to_training,
    record_distance,
)
from sfumato.audit.inversion.seen import Seen
from sfumato.audit.inverted import EvaluatorSummary
from sfumato.audit.measured import Finding
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population, Unit
from sfumato.training.recipe import ModulePredict

pytestmark = pytest.mark.statistical

GAMES = 100
MAY_MISS = int(binom.isf(1e-3, GAMES, 0.05))
SETTINGS = AuditSettings(attacks=(LossThreshold(),), models=2)
EACH, WIDTH = 12, 6


def misses(played):
    """How many of the games missed 0, by measure; `played` seed -> measures."""
    missed: Counter[str] = Counter()
    for seed in range(GAMES):
        for one in played(seed):
            if one.difference is not None and one.difference.value is not None:
                missed[one.name] += not one.difference.low <= 0 <= one.difference.high
    return missed


def judge_of(rng, classes):
    labels = np.arange(classes * EACH) % classes
    centres = 2 * rng.normal(size=(classes, WIDTH))
    records = (centres[labels] + rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
    population = Population(records, Unit("example"), labels=labels)
    network = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, classes))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor(centres, dtype=torch.float32))
        network[1].bias.copy_(torch.tensor(-0.5 * (centres**2).sum(axis=1), dtype=torch.float32))
    summary = EvaluatorSummary(name="x", accuracy=Finding(name="a", value=1, low=1, high=1))
    return Judge(ModulePredict(network.eval()), population, labels < 0, summary), centres


def class_game(seed, targets, classes, informed):
    """Halves drawn fairly; guesses of a class share most of their noise, and both targets of a pair likewise."""
    rng = np.random.default_rng(seed)
    judge, centres = judge_of(rng, classes)
    n = len(judge.population)
    own = np.argsort(judge.population.label_array, kind="stable").reshape(classes, EACH)
    first = np.zeros((targets // 2, n), bool)
    for row in first:
        for rows in own:
            row[rng.permutation(rows)[: EACH // 2]] = True
    trained = np.stack([first, ~first], axis=1).reshape(targets, n)
    labels = np.tile(np.arange(classes), (targets, 1))
    shared = rng.normal(size=(1, classes, 1, WIDTH)) + 0.3 * rng.normal(size=(targets, classes, 1, WIDTH))
    guesses = shared + 0.1 * rng.normal(size=(targets, classes, 4, WIDTH))
    guesses = guesses + centres[None, :, None] if informed else 2 * guesses
    return Seen(ClassGuesses(guesses.astype(np.float32), labels, trained), judge, SETTINGS)


@pytest.mark.parametrize(("targets", "classes"), [(2, 5), (2, 12), (8, 6)])
def test_blind_guesses_show_no_class(targets, classes):
    def played(seed):
        seen = class_game(seed, targets, classes, informed=False)
        return [evaluator_accuracy(seen, 1), class_distance(seen)]

    missed = misses(played)
    assert max(missed.values()) <= MAY_MISS, missed


@pytest.mark.parametrize(("targets", "classes"), [(2, 5), (2, 12), (8, 6)])
def test_guesses_that_show_the_class_alone_show_no_record(targets, classes):
    def played(seed):
        seen = class_game(seed, targets, classes, informed=True)
        return [record_distance(seen), nearer_to_training(seen)]

    missed = misses(played)
    assert max(missed.values()) <= MAY_MISS, missed


def test_intervals_of_single_guesses_would_be_too_narrow():
    """The trap that clusters avoid: as if each of the 4 guesses of a class were a trial of its own."""
    missed = 0
    for seed in range(GAMES):
        seen = class_game(seed, 2, 12, informed=True)
        guesses = seen.guesses
        one = ClassGuesses(guesses.records[:1], guesses.labels[:1], guesses.trained[:1])
        found, trials = nearer_to_training(replace(seen, guesses=one)).attacked, one.labels.size * one.images
        missed += abs(found.value - 0.5) > 1.96 * np.sqrt(0.25 / trials)
    assert missed > MAY_MISS


@pytest.mark.parametrize("batch", [1, 4])
def test_guesses_that_show_the_classes_of_a_batch_show_none_of_its_records(batch):
    def played(seed):
        rng, steps, others = np.random.default_rng(seed), 8, 24
        centres = 2 * rng.normal(size=(3, WIDTH))
        labels, other_labels = rng.integers(0, 3, (steps, batch)), np.tile(np.arange(others) % 3, (steps, 1))
        truth = centres[labels] + rng.normal(size=(steps, batch, WIDTH))
        rest = centres[other_labels] + rng.normal(size=(steps, others, WIDTH))
        guesses = centres[labels] + 0.7 * rng.normal(size=(steps, batch, WIDTH))
        blind = rng.integers(0, 3, (steps, batch))
        return gradient_measures(GradientGuesses(guesses, truth, rest, blind, labels, other_labels), SETTINGS)

    missed = misses(played)
    assert set(missed) == {"mse", "identified", "labels_recovered"}
    assert max(missed.values()) <= MAY_MISS, missed


def members_of(rng, targets, units):
    first = rng.random((targets // 2, units)) < 0.5
    return np.stack([first, ~first], axis=1).reshape(targets, units), np.tile(np.arange(units), (targets, 1))


@pytest.mark.parametrize("targets", [2, 8])
def test_attributes_that_depend_on_the_unit_alone_gain_nothing_on_members(targets):
    def played(seed):
        rng, units = np.random.default_rng(seed), 60
        members, codes = members_of(rng, targets, units)
        truth = np.tile(rng.integers(0, 4, units), (targets, 1))
        easy = rng.random(units)
        said = [np.where(rng.random((targets, units)) < easy, truth, (truth + 1) % 4) for _ in range(2)]
        return attribute_measures(AttributeGuesses(said[0], said[1], truth, members, codes), SETTINGS)

    missed = misses(played)
    assert max(missed.values()) <= MAY_MISS, missed


@pytest.mark.parametrize(("targets", "classes"), [(2, 10), (8, 4)])
def test_planted_labels_that_left_no_trace(targets, classes):
    def played(seed):
        rng, units = np.random.default_rng(seed), 60
        members, codes = members_of(rng, targets, units)
        planted = np.tile(rng.integers(0, classes, units), (targets, 1))
        guessed = np.tile(rng.integers(0, classes, units), (targets, 1))  # the same blind guess of every target
        again = rng.random((targets, units)) < 0.2
        guessed = np.where(again, rng.integers(0, classes, (targets, units)), guessed)
        return label_measures(LabelGuesses(guessed, planted, members, codes, classes), SETTINGS)

    missed = misses(played)
    assert missed["planted_label"] <= MAY_MISS


def test_settings_need_no_inversion_to_judge_what_was_guessed():
    assert replace(SETTINGS, confidence=0.9).inversion is None
