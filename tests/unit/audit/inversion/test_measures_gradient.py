from dataclasses import replace

import numpy as np
import pytest

from sfumato.audit.inversion.guesses import GradientGuesses
from sfumato.audit.inversion.measures import NAMES, gradient_measures

SHAPE, STEPS, BATCH, OTHERS = (1, 4, 4), 6, 3, 30


def played(seed=0, noise=0.01, labels=None, **more):
    rng = np.random.default_rng(seed)
    truth = rng.random((STEPS, BATCH, *SHAPE))
    true_labels = rng.integers(0, 3, (STEPS, BATCH))
    records = truth[:, ::-1] + noise * rng.normal(size=truth.shape)
    others, other_labels = rng.random((STEPS, OTHERS, *SHAPE)), np.tile(np.arange(OTHERS) % 3, (STEPS, 1))
    given = {"records": records, "truth": truth, "others": others, "labels": labels, "true_labels": true_labels}
    return GradientGuesses(**(given | {"other_labels": other_labels} | more))


def measured(guesses, settings):
    return {one.name: one for one in gradient_measures(guesses, settings)}


def test_records_that_were_rebuilt_are_found_in_any_order(world):
    found = measured(played(), world.settings)
    assert set(found) <= set(NAMES)
    assert found["mse"].attacked.value == pytest.approx(1e-4, rel=0.2)
    assert found["psnr"].attacked.value == pytest.approx(40, abs=1)
    assert found["identified"].attacked.value == 1
    assert found["identified"].attacked.low < 1
    assert found["identified"].attacked.at == pytest.approx(1 / 11)
    for name in ("mse", "psnr", "identified"):
        assert found[name].difference.low > 0
        assert found[name].level == "record"


def test_whoever_rebuilt_the_batch_identifies_nothing_that_was_not_in_it(world):
    guesses = played(noise=0.0)
    alike = replace(guesses, true_labels=guesses.true_labels * 0, other_labels=guesses.other_labels * 0)
    found = measured(alike, world.settings)["identified"]
    assert found.attacked.value == 1
    assert found.control.value == 0  # the true records stand among the others, and each guess is one of them


def test_averages_of_a_class_are_near_and_identify_nothing(world):
    """Nearer than any real record is, and no nearer to the batch than to others: the trap of a plain error."""
    guesses = played()
    found = measured(replace(guesses, records=np.full_like(guesses.truth, 0.5)), world.settings)
    assert found["mse"].attacked.value < 0.1
    assert abs(found["mse"].difference.value) < 0.01
    assert abs(found["psnr"].difference.value) < 1
    assert found["identified"].difference.low < 0 < found["identified"].difference.high


def test_exact_records_have_finite_decibels(world):
    assert measured(played(noise=0.0), world.settings)["psnr"].attacked.value == pytest.approx(120)


def test_places_beyond_a_batch_do_not_count(world):
    guesses = played()
    truth, records = guesses.truth.copy(), guesses.records.copy()
    truth[:, 2], records[:, 2] = np.nan, np.nan
    records[:, :2] = truth[:, :2]
    labels = guesses.true_labels.copy()
    labels[:, 2] = -1
    found = measured(replace(guesses, truth=truth, records=records, true_labels=labels), world.settings)
    assert found["mse"].attacked.value == pytest.approx(0, abs=1e-12)


def test_too_few_other_records_leave_the_control_open(world):
    guesses = played()
    few = replace(guesses, others=guesses.others[:, :2], other_labels=guesses.other_labels[:, :2])
    found = measured(few, world.settings)["identified"]
    assert found.attacked.resolvable
    assert not found.control.resolvable
    assert not found.difference.resolvable


def test_without_classes_all_other_records_count(world):
    found = measured(played(other_labels=None), world.settings)["identified"]
    assert found.attacked.at == pytest.approx(1 / (1 + OTHERS))


def test_rows_of_a_table_have_no_decibels(world):
    rng = np.random.default_rng(0)
    flat = rng.random((STEPS, BATCH, 5))
    guesses = played(records=flat, truth=flat, others=rng.random((STEPS, OTHERS, 5)))
    assert not measured(guesses, world.settings)["psnr"].attacked.resolvable


def test_recovered_labels_are_counted_beside_those_of_other_steps(world):
    guesses = played()
    right = measured(replace(guesses, labels=guesses.true_labels[:, ::-1]), world.settings)["labels_recovered"]
    assert right.attacked.value == 1
    assert right.control.value < 1
    assert right.difference.value == pytest.approx(1 - right.control.value)
    blind = measured(replace(guesses, labels=np.zeros((STEPS, BATCH), int)), world.settings)["labels_recovered"]
    assert blind.difference.low < 0 < blind.difference.high
    assert not measured(guesses, world.settings)["labels_recovered"].attacked.resolvable


def test_one_step_has_no_interval(world):
    guesses = played()
    one = GradientGuesses(
        *(getattr(guesses, name)[:1] for name in ("records", "truth", "others")),
        guesses.true_labels[:1],
        guesses.true_labels[:1],
        guesses.other_labels[:1],
    )
    found = measured(one, world.settings)
    assert found["mse"].attacked.value is not None
    assert found["mse"].attacked.low is None
    assert found["labels_recovered"].control is None


def test_the_record_that_stands_in_is_not_its_own_rival(world):
    """One true record and one other of the class, which all guesses show: it is identified each time."""
    guesses = played()
    other = guesses.others[:, :1]
    alone = GradientGuesses(
        other, guesses.truth[:, :1], other, None, np.zeros((STEPS, 1), int), other_labels=np.zeros((STEPS, 1), int)
    )
    found = measured(alone, world.settings)["identified"]
    assert found.attacked.value == 0
    assert found.control.value == 1
