from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.relaxation import confidence, flattened, held
from sfumato.defences.relaxloss import RelaxLoss, wrong
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.mlp import MLP
from sfumato.training.composition import composed_objective
from sfumato.training.losses import cross_entropy
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.seen import Seen, Tally
from sfumato.training.task import Optimizer, Task

# Three rows that are easy by hand: logits, labels; probabilities 0.8, 0.1, 0.1 in some order.
PROBABILITIES = torch.tensor([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
LABELS = torch.eye(3, dtype=torch.float64)[[0, 1, 0]]
LOSSES = -torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64).log()


def seen(epoch, *, models=1, tally=None):
    return Seen(PROBABILITIES.log(), LABELS, epoch=epoch, models=models, tally=tally)


def rows(defence, at):
    return composed_objective(defence, cross_entropy)(at)


def test_confidences_and_flattened_labels_by_hand():
    p = confidence(PROBABILITIES.log(), LABELS)
    torch.testing.assert_close(p, torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64))
    expected = torch.tensor([[0.6, 0.2, 0.2], [0.45, 0.1, 0.45], [0.1, 0.45, 0.45]], dtype=torch.float64)
    torch.testing.assert_close(flattened(LABELS, held(p, 0.6, detach=False)), expected)
    half = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
    assert float(flattened(half, torch.tensor([0.7], dtype=torch.float64)).sum()) == pytest.approx(1.0)
    one_logit = confidence(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(one_logit, torch.sigmoid(torch.tensor([0.0, 2.0])))


def test_wrong_answers():
    assert wrong(PROBABILITIES.log(), LABELS).tolist() == [0.0, 1.0, 1.0]
    assert wrong(torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0, 0.0], [0.7, 0.3]])).tolist() == [0.0, 1.0]


def test_the_three_branches_by_hand():
    mean = float(LOSSES.mean())
    assert rows(RelaxLoss(alpha=2.0), seen(0)).tolist() == pytest.approx([2.0 - mean] * 3)
    assert rows(RelaxLoss(alpha=1.0), seen(0)).tolist() == pytest.approx([mean - 1.0] * 3)
    assert rows(RelaxLoss(alpha=1.0), seen(1)).tolist() == pytest.approx(LOSSES.tolist())
    # the flattened label of row 1 is (0.45, 0.1, 0.45), of row 2 (0.1, 0.45, 0.45)
    soft = -(0.45 * np.log(0.8) + 0.1 * np.log(0.1) + 0.45 * np.log(0.1))
    expected = [-LOSSES[0], soft - LOSSES[1], soft - LOSSES[2]]
    assert rows(RelaxLoss(alpha=2.0), seen(1)).tolist() == pytest.approx([float(value) for value in expected])
    first = -(0.8 * np.log(0.8) + 0.2 * np.log(0.1))
    simplified = rows(RelaxLoss(alpha=2.0, flattening="simplified"), seen(1))
    assert simplified.tolist() == pytest.approx([first, soft, soft])


def test_each_example_has_a_threshold_of_its_own_where_asked():
    """Row 0 is below 1 nat, the others above."""
    found = rows(RelaxLoss(alpha=1.0, threshold="example", flattening="simplified"), seen(1))
    first = -(0.8 * np.log(0.8) + 0.2 * np.log(0.1))
    assert found.tolist() == pytest.approx([first, float(LOSSES[1]), float(LOSSES[2])])
    even = rows(RelaxLoss(alpha=1.0, threshold="example"), seen(0))
    assert even.tolist() == pytest.approx((LOSSES - 1).abs().tolist())


def test_epochs_are_counted_from_zero_and_the_base_can_be_changed():
    at = seen(0)
    assert torch.equal(rows(RelaxLoss(first_epoch=1), at), rows(RelaxLoss(), replace(at, epoch=1)))
    assert not torch.equal(rows(RelaxLoss(), at), rows(RelaxLoss(), replace(at, epoch=1)))


def test_it_relaxes_the_loss_of_the_inner_defence():
    """With labels smoothed by s: q becomes (1 - s) q + s / K in every branch."""
    both = RelaxLoss(alpha=1.0, inner=LabelSmoothing(smoothing=0.3))
    smoothed = cross_entropy(PROBABILITIES.log(), 0.7 * LABELS + 0.1)
    torch.testing.assert_close(rows(both, seen(1)), smoothed)
    below = replace(both, alpha=9.0, flattening="simplified")
    flat = flattened(LABELS, confidence(PROBABILITIES.log(), LABELS))
    torch.testing.assert_close(rows(below, seen(1)), cross_entropy(PROBABILITIES.log(), 0.7 * flat + 0.1))


def test_branches_of_an_inner_part_are_counted_once():
    """An inner objective is asked twice where labels are flattened."""

    def inner(at):
        at.count("asked", torch.ones(3, dtype=torch.bool))
        return cross_entropy(at.outputs, at.targets)

    tally = Tally(1)
    RelaxLoss(alpha=9.0).objective(seen(1, tally=tally), inner)
    assert tally.of(0) == {"asked": 1.0, "descent": 0.0, "flattening": 1.0}


def test_models_of_a_stack_have_thresholds_of_their_own():
    """One model above its level and one below it, in one call."""
    logits = torch.cat([PROBABILITIES.log(), 3 * PROBABILITIES.log()])
    targets = torch.cat([LABELS[[0, 0, 2]], LABELS])
    tally = Tally(2)
    defence = RelaxLoss(alpha=2.0)
    together = rows(defence, Seen(logits, targets, epoch=1, models=2, tally=tally))
    for model in range(2):
        own = slice(3 * model, 3 * model + 3)
        assert torch.equal(together[own], rows(defence, Seen(logits[own], targets[own], epoch=1)))
    assert [tally.of(model)["flattening"] for model in range(2)] == [1.0, 0.0]


def test_ranges():
    wrongs = ({"alpha": -1}, {"upper": 2}, {"flattening": "other"}, {"threshold": "unit"}, {"first_epoch": 2})
    for fields in wrongs:
        with pytest.raises(UsageError, match=next(iter(fields))):
            RelaxLoss(**fields)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=np.arange(40) % 3)


TASK = Task(model=MLP(hidden=(32,)), epochs=40, batch_size=10, optimizer=Optimizer(lr=0.1), schedule="constant")
WORK = [Assignment(np.arange(30), seed) for seed in (1, 2, 3)]


def test_it_holds_the_training_loss_near_its_level(data):
    """Random labels, which an undefended network learns by heart."""
    losses = {}
    for defence in (RelaxLoss(alpha=0.6), Undefended()):
        recipe = Recipe(TASK, defence)
        trained = recipe.fit(data, WORK[:1], LoopOptions())[0]
        logits = recipe.predictor(trained, data)(data.tensor(np.arange(30))).detach()
        losses[defence.name] = float(cross_entropy(logits, torch.eye(3)[torch.arange(30) % 3]).mean())
        if defence.name == "relaxloss":
            assert sorted(trained.tallies) == sorted(RelaxLoss.branches)
            assert all(steps > 0 for steps in trained.tallies.values())
            assert sum(trained.tallies.values()) == pytest.approx(40 * 3)
    assert losses["undefended"] < 0.2
    assert 0.35 < losses["relaxloss"] < 0.9


def test_a_stack_trains_the_models_that_are_trained_alone(data):
    task = replace(TASK, epochs=6)
    options = LoopOptions(dtype=torch.float64)
    recipe = Recipe(task, RelaxLoss(alpha=0.9))
    together = recipe.fit(data, WORK, options)
    for assignment, model in zip(WORK, together, strict=True):
        alone = recipe.fit(data, [assignment], options)[0]
        assert alone.tallies == pytest.approx(model.tallies)
        for name, value in alone.state.items():
            torch.testing.assert_close(model.state[name], value, rtol=1e-9, atol=1e-12)
    assert len({model.tallies["flattening"] for model in together}) > 1  # the models take different branches


@pytest.mark.parametrize("threshold", ["batch", "example"])
def test_under_a_private_update_each_example_needs_a_threshold_of_its_own(data, threshold):
    plan = DPSGD(
        sample_rate=0.3, expected_batch_size=9, steps=6, delta=1e-3, adjacency="ADD_OR_REMOVE_ONE", noise_multiplier=1.0
    )  # fmt: skip
    recipe = Recipe(TASK, RelaxLoss(threshold=threshold, inner=plan))
    if threshold == "batch":
        with pytest.raises(NotPrivateError, match=r"relaxloss.*mean over the batch"):
            recipe.fit(data, WORK[:1], LoopOptions())
        return
    trained = recipe.fit(data, WORK[:1], LoopOptions())[0]
    assert trained.epochs == 2
    assert trained.tallies == {}
