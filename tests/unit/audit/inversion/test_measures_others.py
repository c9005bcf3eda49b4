"""The attribute game, the label game, and what is read first."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.audit.inversion.guesses import AttributeGuesses, ClassGuesses, GradientGuesses, LabelGuesses
from sfumato.audit.inversion.headline import FIRST, inversion_headline
from sfumato.audit.inversion.measures import NAMES, attribute_measures, label_measures
from sfumato.audit.inverted import InversionResult
from sfumato.errors import UsageError

TARGETS, UNITS, VALUES = 4, 80, 4


def attributes(seed=0):
    """The baseline is right 3 times in 4; the attack adds members, and nothing else."""
    rng = np.random.default_rng(seed)
    truth = np.tile(rng.integers(0, VALUES, UNITS), (TARGETS, 1))
    members = rng.random((TARGETS, UNITS)) < 0.5
    baseline = np.where(rng.random((1, UNITS)) < 0.75, truth, (truth + 1) % VALUES)
    guessed = np.where(members, truth, baseline)
    return AttributeGuesses(guessed, baseline, truth, members, np.tile(np.arange(UNITS), (TARGETS, 1)))


def test_what_is_known_of_members_alone_is_a_leak_of_records(world):
    guesses = attributes()
    accuracy, gain = attribute_measures(guesses, world.settings)
    base = (guesses.baseline == guesses.truth)[guesses.members].mean()
    assert accuracy.attacked.value == 1
    assert accuracy.control.value == pytest.approx(base)
    assert accuracy.difference.value == pytest.approx(1 - base)
    assert accuracy.difference.low > 0.1
    assert accuracy.level == "class"
    assert gain.level == "record"
    assert gain.difference.low > 0
    assert gain.attacked.value == pytest.approx(1 - (guesses.guessed == guesses.truth)[~guesses.members].mean())
    assert gain.difference.value == pytest.approx(gain.attacked.value - gain.control.value)
    assert (gain.attacked.n_members, gain.attacked.n_nonmembers) == (guesses.members.sum(), (~guesses.members).sum())


def test_to_know_the_population_better_is_no_leak_of_records(world):
    guesses = replace(attributes(), guessed=attributes().truth)
    accuracy, gain = attribute_measures(guesses, world.settings)
    assert accuracy.difference.low > 0
    assert gain.attacked.value == 0
    assert gain.difference.low < 0 < gain.difference.high


def test_the_baseline_itself_adds_nothing(world):
    guesses = replace(attributes(), guessed=attributes().baseline)
    accuracy, gain = attribute_measures(guesses, world.settings)
    assert accuracy.difference.value == 0
    assert accuracy.difference.low < 0 < accuracy.difference.high
    assert gain.difference.value == 0
    assert gain.difference.low < 0 < gain.difference.high


def test_without_others_there_is_no_gain(world):
    guesses = replace(attributes(), members=np.ones((TARGETS, UNITS), bool))
    gain = attribute_measures(guesses, world.settings)[1]
    assert not gain.attacked.resolvable
    assert not gain.difference.resolvable


def labels(found, seed=0, classes=5):
    rng = np.random.default_rng(seed)
    planted = rng.integers(0, classes, (TARGETS, UNITS))
    members = rng.random((TARGETS, UNITS)) < 0.5
    guessed = np.where(members & found, planted, rng.integers(0, classes, (TARGETS, UNITS)))
    return LabelGuesses(guessed, planted, members, np.tile(np.arange(UNITS), (TARGETS, 1)), classes)


def test_planted_labels_are_found_on_members(world):
    (found,) = label_measures(labels(True), world.settings)
    assert found.attacked.value == 1
    assert found.attacked.at == pytest.approx(1 / 4)
    assert found.control.high < 0.5
    assert found.difference.low > 0.5
    assert found.level == "record"


def test_planted_labels_that_nobody_finds(world):
    (found,) = label_measures(labels(False), world.settings)
    assert found.difference.low < 0 < found.difference.high


def test_planted_labels_without_others_are_compared_with_chance(world):
    guesses = replace(labels(True), members=np.ones((TARGETS, UNITS), bool))
    (found,) = label_measures(guesses, world.settings)
    assert found.control is None
    assert "chance" in found.control_is


def result(game, measures):
    return InversionResult(name="x", game=game, access="scores", measures=measures, targets=4, questions=8, guesses=1)


def test_the_headline_keeps_both_levels_apart(world):
    accuracy, gain = attribute_measures(attributes(), world.settings)
    found = inversion_headline(result("attribute", [gain, accuracy]))
    assert found.class_level == accuracy
    assert found.record_level == gain
    (planted,) = label_measures(labels(True), world.settings)
    found = inversion_headline(result("label", [planted]))
    assert found == (None, planted)


def test_the_headline_skips_what_could_not_be_measured(world):
    guesses = replace(attributes(), members=np.ones((TARGETS, UNITS), bool))
    accuracy, gain = attribute_measures(guesses, world.settings)
    assert inversion_headline(result("attribute", [accuracy, gain])) == (accuracy, None)


def test_the_headline_names_only_known_measures():
    assert {name for levels in FIRST.values() for names in levels for name in names} <= set(NAMES)


WHOLE, TRUE = np.zeros((2, 3), int), np.zeros((2, 3), bool)
ROWS, NAN = np.zeros((2, 3, 4)), np.full((2, 3, 4), np.nan)
FOUR = np.zeros((2, 3, 4, 5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassGuesses(ROWS, WHOLE, np.zeros((2, 9), bool)),
        lambda: ClassGuesses(FOUR, np.zeros((2, 4), int), np.zeros((2, 9), bool)),
        lambda: ClassGuesses(np.full_like(FOUR, np.nan), WHOLE, np.zeros((2, 9), bool)),
        lambda: ClassGuesses(FOUR, WHOLE, np.zeros((3, 9), bool)),
        lambda: ClassGuesses(FOUR, WHOLE - 1, np.zeros((2, 9), bool)),
        lambda: GradientGuesses(NAN, ROWS, ROWS, None, WHOLE),
        lambda: GradientGuesses(ROWS, ROWS[..., :2], ROWS, None, WHOLE),
        lambda: GradientGuesses(ROWS, ROWS, ROWS[:1], None, WHOLE),
        lambda: AttributeGuesses(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE),
        lambda: AttributeGuesses(WHOLE, WHOLE, WHOLE[:1], TRUE, WHOLE),
        lambda: LabelGuesses(WHOLE, WHOLE + 4, TRUE, WHOLE, 4),
        lambda: LabelGuesses(WHOLE, WHOLE, TRUE, WHOLE, 1),
    ],
)
def test_guesses_of_another_shape_are_refused(make):
    with pytest.raises(UsageError, match="Expected"):
        make()
