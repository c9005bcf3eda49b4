from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.inversion.base import why_not
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.miface import MIFace, denoised, sharpened
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box


@pytest.fixture
def logistic(inversion_evidence):
    """A binary logistic model over [0, 1]^d, and its weights."""
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.choice([-1.0, 1.0], 12) * rng.uniform(0.3, 1.0, 12)).float()
    network = nn.Linear(12, 2)
    with torch.no_grad():
        network.weight.copy_(torch.stack([torch.zeros(12), weights]))
        network.bias.copy_(torch.tensor([0.0, -1.0]))
    box = Box(torch.zeros(12), torch.ones(12), torch.ones(12))
    oracle = inversion_evidence.oracle_for(network.eval(), (12,), 2, box)
    return ClassEvidence(oracle, np.array([0, 1]), None, 0), weights


@pytest.mark.parametrize("start", ["zero", "low", "middle"])
def test_on_a_logistic_model_each_class_ends_in_the_corner_of_its_weights(logistic, start):
    evidence, weights = logistic
    found = MIFace(stop=False, steps=400, learning_rate=1.0, start=start, images=2).reconstruct(evidence)
    for guess in range(2):
        np.testing.assert_array_equal(found.records[1, guess], (weights > 0).float())
        np.testing.assert_array_equal(found.records[0, guess], (weights < 0).float())
    assert found.queries == 4 * 401
    assert found.facts["steps"] == 400


def test_the_stopping_rule_ends_a_walk_before_the_corner(logistic):
    evidence, weights = logistic
    found = MIFace(steps=400, learning_rate=1.0, threshold=0.3).reconstruct(evidence)
    assert found.facts["steps"] < 50
    assert not np.array_equal(found.records[1, 0], (weights > 0).float())
    assert (found.confidence >= 0.7).all()
    assert found.queries < 2 * 51


def test_the_best_iterate_is_returned_and_not_the_last(logistic):
    evidence, _ = logistic
    found = MIFace(steps=3, learning_rate=1.0, process="none", stop=False).reconstruct(evidence)

    class Spoiled(MIFace):
        def _process(self, oracle):
            return lambda x: torch.full_like(x, 0.5)  # each step leads to a worse place than the start's successor

    spoiled = Spoiled(steps=3, start="zero", stop=False).reconstruct(evidence)
    from_start = torch.stack([torch.zeros(12), torch.full((12,), 0.5)])
    reached = evidence.oracle.logits(from_start).softmax(dim=1).max(dim=0).values.detach()
    np.testing.assert_allclose(spoiled.confidence[:, 0], reached, atol=1e-6)
    assert (found.confidence[:, 0] > spoiled.confidence[:, 0]).all()


def test_more_guesses_start_elsewhere_and_do_not_depend_on_other_classes(inversion_evidence):
    attack = MIFace(images=3, steps=20, learning_rate=0.5)
    all_classes = attack.reconstruct(inversion_evidence.class_evidence())
    one = attack.reconstruct(inversion_evidence.class_evidence(labels=(3,)))
    np.testing.assert_allclose(one.records[0], all_classes.records[3], atol=1e-5)
    assert len(np.unique(all_classes.records[0].reshape(3, -1), axis=0)) == 3


def test_pictures_are_denoised_by_the_median_and_sharpened_away_from_the_mean():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    assert denoised(x).abs().sum() == 0
    assert float(sharpened(x)[0, 0, 2, 2]) == pytest.approx(1 + 0.5 * (1 - 1 / 9))
    assert float(sharpened(x)[0, 0, 1, 1]) == pytest.approx(-0.5 / 9)


@pytest.mark.parametrize("process", ["denoise", "sharpen"])
def test_a_process_changes_the_picture_and_is_refused_for_a_table(process, inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    plain, processed = (MIFace(steps=10, stop=False, process=kind).reconstruct(evidence) for kind in ("none", process))
    assert not np.array_equal(plain.records, processed.records)
    assert processed.records.min() >= 0
    assert processed.records.max() <= 1
    reasons = why_not(MIFace(process=process), inversion_evidence.table_evidence())
    assert reasons == (f"needs pictures to {process}, got records of shape (4,)",)


def test_a_start_outside_the_box_is_moved_into_it(inversion_evidence):
    evidence = inversion_evidence.table_evidence()
    box = Box(torch.full((4,), 1.0), torch.full((4,), 3.0), torch.ones(4))
    evidence = replace(evidence, oracle=replace(evidence.oracle, box=box))
    found = MIFace(steps=1, stop=False, learning_rate=1e-9).reconstruct(evidence)
    np.testing.assert_allclose(found.records, 1.0, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"window": 0}, {"learning_rate": 0.0}, {"threshold": 1.5}, {"start": "noise"}, {"process": "blur"}],
)
def test_bad_options_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        MIFace(**wrong)


def test_on_digits_guesses_are_sure_and_nearer_to_the_class_than_to_others(inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    found = MIFace.example().reconstruct(evidence)
    assert found.confidence[:, 0].min() > 0.98
    assert inversion_evidence.nearer_to_own(found.records, evidence.labels).mean() > 0.2


@pytest.mark.slow
def test_with_its_own_numbers_it_comes_nearer_to_each_class(inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    found = MIFace(images=3).reconstruct(evidence)
    assert found.confidence.min() > 0.98
    assert inversion_evidence.nearer_to_own(found.records, evidence.labels).min() > 0
