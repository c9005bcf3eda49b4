"""The wrong class that the model is surest of."""

import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.base import why_not
from sfumato.attacks.inversion.evidence import LabelEvidence
from sfumato.attacks.inversion.planted_label import FLOOR, PlantedLabel, means_by_class, means_of_others
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

BOX = Box(torch.full((4,), -9.0), torch.full((4,), 9.0), torch.ones(4))
LOGITS = np.array([[5.0, 1.0, 2.0, 0.0], [0.0, 5.0, 3.0, 4.0], [9.0, 8.0, 0.0, 7.0]], np.float32)


def evidence(logits=LOGITS, true=(0, 1, 0), public=None, predict=lambda x: x):
    oracle = oracle_of(predict, Undefended(), (4,), 4, BOX, seed=0, name="m").restricted_to("scores")
    return LabelEvidence(oracle, logits, np.array(true), 0, public=public)


def test_the_wrong_class_with_the_largest_score_comes_first():
    given = evidence()
    found = PlantedLabel().reconstruct(given)
    assert found.records[..., 0].tolist() == [[2, 1, 3], [3, 2, 0], [1, 3, 2]]
    assert found.records.dtype == np.float32
    assert (np.diff(found.confidence, axis=1) <= 0).all()
    assert found.queries == given.oracle.queries == 3


def test_a_score_of_nothing_is_a_number():
    given = evidence(LOGITS[:2], (0, 1), predict=lambda x: torch.where(x == 5, x, -torch.inf))
    found = PlantedLabel().reconstruct(given)
    assert (found.confidence == FLOOR).all()
    assert found.records[..., 0].tolist() == [[1, 2, 3], [0, 2, 3]]


def test_means_leave_the_record_itself_out():
    scores = np.array([[1.0, 2.0], [3.0, 6.0], [7.0, 8.0], [5.0, 4.0]])
    told = means_of_others(scores, np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(told, [[4, 5], [3, 3], [0, 0], [2, 4]])


def test_means_by_class_take_all_where_a_class_has_none():
    scores = np.array([[1.0, 2.0], [3.0, 6.0]])
    np.testing.assert_allclose(means_by_class(scores, np.array([0, 0]), 2), [[2, 4], [2, 4]])
    np.testing.assert_allclose(means_by_class(scores, np.array([1, 0]), 2), [[3, 6], [1, 2]])


def look_alike(n=60):
    """Class 0 looks like class 1; each record's planted class is up by a little."""
    rng = np.random.default_rng(0)
    planted = rng.integers(1, 4, n)
    logits = np.tile(np.array([8.0, 5.0, 0.0, 0.0], np.float32), (n, 1))
    logits[np.arange(n), planted] += 2
    return logits, planted


@pytest.mark.parametrize("calibration", ["asked", "public"])
def test_calibration_takes_off_what_looks_alike_anyway(calibration):
    logits, planted = look_alike()
    usual = np.tile(np.array([8.0, 5.0, 0.0, 0.0], np.float32), (5, 1))
    public = Population(usual, "example", labels=np.zeros(5, int), class_names=tuple("abcd"))
    given = evidence(logits, np.zeros(60, int), public)
    plain = PlantedLabel().reconstruct(given).records[:, 0, 0]
    calibrated = PlantedLabel(calibration=calibration).reconstruct(given)
    assert (plain == 1).all()
    assert (calibrated.records[:, 0, 0] == planted).all()
    assert calibrated.queries == (65 if calibration == "public" else 60)


def test_calibration_with_public_records_needs_them_and_their_classes():
    attack = PlantedLabel(calibration="public")
    assert why_not(attack, evidence()) == ("needs public records to calibrate with, got none",)
    other = Population(LOGITS, "example", labels=np.array([0, 1, 9]))
    assert "own classes" in why_not(attack, evidence(public=other))[0]
    assert why_not(PlantedLabel(), evidence()) == ()
    with pytest.raises(UsageError, match="calibration"):
        PlantedLabel(calibration="some")
