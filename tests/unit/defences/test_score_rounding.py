import math

import pytest
import torch

from sfumato.defences.score_rounding import ScoreRounding, rounded
from sfumato.defences.top_1 import Top1, only_labels
from sfumato.errors import UsageError
from sfumato.training.composition import guards_at_random, labels_pass
from sfumato.training.defence import Behind
from sfumato.training.draws import Draws

BEHIND = Behind(lambda x: x, (1,))
DRAWS = Draws((1,))


def asked(defence, probabilities):
    return defence.guard(torch.tensor(probabilities).log(), DRAWS, BEHIND)


def test_probabilities_have_so_many_digits():
    got = asked(ScoreRounding(digits=2), [[0.7349, 0.2611, 0.0040], [0.5, 0.4549, 0.0451]]).exp()
    assert torch.allclose(got, torch.tensor([[0.73, 0.26, 0.0], [0.5, 0.45, 0.05]]), atol=1e-6)


def test_a_probability_of_nothing_is_a_number_and_says_so():
    got = rounded(torch.tensor([[0.96, 0.04]], dtype=torch.float64).log(), 1)
    assert got[0].tolist() == pytest.approx([0.0, math.log(1e-30)])
    assert torch.isfinite(got.log_softmax(dim=1)).all()


@pytest.mark.parametrize("digits", [0, 1, 3])
def test_the_label_stays_where_rounding_makes_others_equal(digits):
    logits = 0.05 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    got = ScoreRounding(digits=digits).guard(logits, DRAWS, BEHIND)
    assert torch.equal(got.argmax(dim=1), logits.argmax(dim=1))
    told = got.exp().round(decimals=6)
    assert len(torch.unique(told)) <= 10**digits  # far fewer numbers than there were


def test_answers_hide_what_is_behind_the_last_digit():
    first, second = asked(ScoreRounding(digits=1), [[0.61, 0.39], [0.64, 0.36]])
    assert torch.equal(first, second)


@pytest.mark.parametrize("digits", [-1, 8])
def test_digits_are_checked(digits):
    with pytest.raises(UsageError, match="digits"):
        ScoreRounding(digits=digits)


def test_the_label_alone_is_told():
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, -1.0]])
    got = Top1().guard(logits, DRAWS, BEHIND)
    assert got[0].tolist() == pytest.approx([math.log(1e-30), 0.0, math.log(1e-30)])
    assert got.argmax(dim=1).tolist() == [1, 0]  # the first of equal ones
    assert torch.equal(got, Top1().guard(7 * logits - 3, DRAWS, BEHIND))
    assert torch.equal(only_labels(logits), got)


@pytest.mark.parametrize("defence", [ScoreRounding(), Top1(), Top1(inner=ScoreRounding())])
def test_answers_are_always_the_same_and_labels_pass(defence):
    assert not guards_at_random(defence)
    assert labels_pass(defence)


@pytest.mark.parametrize("defence", [ScoreRounding(), Top1()])
def test_the_one_logit_head_is_answered_in_two_columns(defence):
    got = defence.guard(torch.tensor([[2.0], [-0.1]]), DRAWS, BEHIND)
    assert got.shape == (2, 2)
    assert got.argmax(dim=1).tolist() == [1, 0]
