import math

import pytest
import torch

from sfumato.defences.ccl import CCL, subtracted
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.errors import UsageError
from sfumato.training.composition import composed_objective
from sfumato.training.losses import cross_entropy
from sfumato.training.seen import Seen


def loss(defence, logits, target):
    return float(defence.loss(torch.tensor([logits]).double(), torch.tensor([target]).double(), cross_entropy))


def test_values_at_even_odds():
    ce, even = math.log(2), ([0.0, 0.0], [1.0, 0.0])
    assert loss(CCL(alpha=0.3, scale=2.0), *even) == pytest.approx(2 * (0.3 * ce - 0.7 * math.exp(0.5)))
    quadratic = CCL(alpha=0.3, scale=1.0, form="quadratic")
    assert loss(quadratic, *even) == pytest.approx(0.3 * ce - 0.7 * (0.5 + 0.125))
    focal = CCL(alpha=0.3, scale=1.0, focusing=2.0)
    assert loss(focal, *even) == pytest.approx(0.3 * 0.25 * ce - 0.7 * math.exp(0.5))


def test_alone_the_convex_part_is_cross_entropy():
    assert loss(CCL(alpha=1.0, scale=1.0), [0.3, -1.0, 2.0], [0, 1, 0]) == pytest.approx(
        float(cross_entropy(torch.tensor([[0.3, -1.0, 2.0]]).double(), torch.tensor([[0, 1.0, 0]]).double()))
    )


def test_minus_what_is_subtracted_is_concave():
    p = torch.linspace(0, 1, 101, dtype=torch.float64)
    for form in ("exponential", "quadratic"):
        assert bool((-subtracted(p, form)).diff().diff().lt(0).all())


def test_a_soft_label_weighs_the_losses_of_the_classes():
    one, two = (loss(CCL(), [0.5, -0.5, 1.0], label) for label in ([1, 0, 0], [0, 1, 0]))
    assert loss(CCL(), [0.5, -0.5, 1.0], [0.25, 0.75, 0]) == pytest.approx(0.25 * one + 0.75 * two)


@pytest.mark.parametrize("focusing", [0.0, 0.5, 2.0])
def test_a_certain_answer_has_a_finite_slope(focusing):
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    CCL(focusing=focusing).loss(logits, torch.tensor([[1.0, 0], [1.0, 0]]), cross_entropy).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_it_wraps_the_loss_of_another():
    logits, targets = torch.tensor([[1.0, 0.0, 0.5]]), torch.eye(3)[:1]
    both = composed_objective(CCL(inner=LabelSmoothing(smoothing=0.3)), cross_entropy)(Seen(logits, targets))
    convex = LabelSmoothing(smoothing=0.3).loss(logits, targets, cross_entropy)
    expected = 0.05 * (0.5 * convex - 0.5 * logits.softmax(1)[:, 0].exp())
    assert torch.allclose(both, expected)


@pytest.mark.parametrize(
    "wrong", [{"alpha": 1.2}, {"scale": 0.0}, {"form": "cubic"}, {"focusing": -1.0}], ids=lambda w: next(iter(w))
)
def test_ranges(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        CCL(**wrong)
