from dataclasses import replace

import pytest
import torch

from sfumato.defences.negative_label_smoothing import FULL, RISING, NegativeLabelSmoothing, scheduled
from sfumato.errors import UsageError
from sfumato.training.losses import cross_entropy
from sfumato.training.seen import Seen, Tally


def seen(epoch, epochs=8):
    outputs = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)
    return Seen(outputs, torch.eye(3, dtype=torch.float64)[[0, 1]], epoch=epoch, epochs=epochs, tally=Tally(1))


def rows(defence, at):
    return defence.objective(at, lambda here: cross_entropy(here.outputs, here.targets))


def test_over_a_hundred_epochs_the_schedule_is_that_of_the_official_code():
    found = [scheduled(epoch, 100) for epoch in range(100)]
    assert found[:50] == [0.0] * 50
    assert found[50:75] == pytest.approx([(epoch - 49) / 50 for epoch in range(50, 75)])
    assert found[74] == pytest.approx(0.5)
    assert found[75:] == [1.0] * 25


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20, 40])
def test_the_schedule_never_falls_and_keeps_its_phases(epochs):
    found = [scheduled(epoch, epochs) for epoch in range(epochs)]
    assert found == sorted(found)
    assert all(share == 0 for epoch, share in enumerate(found) if epoch < epochs / 2)
    assert all(share == 1 for epoch, share in enumerate(found) if epoch >= 0.75 * epochs)
    assert all(0 < share <= 1 for epoch, share in enumerate(found) if epoch >= epochs / 2)


def test_in_the_first_half_it_is_the_ordinary_loss():
    at = seen(3)
    assert torch.equal(rows(NegativeLabelSmoothing(), at), cross_entropy(at.outputs, at.targets))
    assert at.tally.steps == {}


def test_what_was_in_force_is_counted():
    defence = NegativeLabelSmoothing()
    for epoch, branch in ((5, RISING), (6, FULL)):
        at = seen(epoch)
        rows(defence, at)
        assert at.tally.of(0) == {branch: 1.0}
    at = seen(0)
    rows(replace(defence, schedule="constant"), at)
    assert at.tally.of(0) == {FULL: 1.0}


def test_a_larger_margin_is_rewarded_without_end():
    """Where ordinary cross-entropy ends at 0: the docstring says so."""
    defence = NegativeLabelSmoothing(smoothing=-0.1, schedule="constant")
    margins = torch.tensor([[10.0, 0, 0], [100.0, 0, 0], [1000.0, 0, 0]], dtype=torch.float64)
    found = rows(defence, Seen(margins, torch.eye(3, dtype=torch.float64)[[0, 0, 0]]))
    assert found[1:] == pytest.approx(-0.1 * margins[1:, 0] * 2 / 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, float("nan"), -float("inf")])
def test_only_values_below_zero(smoothing):
    with pytest.raises(UsageError, match="below 0"):
        NegativeLabelSmoothing(smoothing=smoothing)
