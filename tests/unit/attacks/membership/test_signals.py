import numpy as np
import pytest

from sfumato.attacks.membership.signals import finite, over_population, read_signal
from sfumato.errors import DataError, NotApplicable
from sfumato.targets.queries import BASE


def test_infinities_move_one_beyond_the_furthest_finite_value_and_nothing_else_moves():
    found = finite(np.array([[-np.inf, -3.0], [2.5, np.inf]]))
    np.testing.assert_array_equal(found, [[-4.0, -3.0], [2.5, 3.5]])
    np.testing.assert_array_equal(finite(np.array([-np.inf, np.inf])), [-1.0, 1.0])


def test_nan_is_refused_with_its_count():
    with pytest.raises(DataError, match="1 NaN of 3"):
        finite(np.array([np.nan, 1.0, 2.0]))


def test_records_outside_the_game_have_no_score():
    found = over_population(np.array([1.0, 2.0]), np.array([True, False, True]))
    np.testing.assert_array_equal(found, [1.0, np.nan, 2.0])


def test_target_and_references_share_one_replacement(attack_evidence):
    evidence, _ = attack_evidence.synthetic()

    def saturate(logits):
        logits = logits.copy()
        logits[:, 0] = -np.inf
        logits[:, 0, evidence.labels[0]] = 0.0
        return logits

    signal = read_signal(attack_evidence.with_logits(evidence, saturate), "logit", BASE)
    assert np.isfinite(signal.references).all()
    assert (signal.references[:, 0] == signal.target[0]).all()
    assert signal.membership.shape == signal.references.shape[:2] == (8, 60)


def test_no_references_is_said(attack_evidence):
    from dataclasses import replace

    evidence, _ = attack_evidence.synthetic()
    with pytest.raises(NotApplicable, match="reference models"):
        read_signal(replace(evidence, references=None), "logit", BASE)
