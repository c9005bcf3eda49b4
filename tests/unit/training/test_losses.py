import math

import pytest
import torch

from sfumato.errors import UsageError
from sfumato.training.losses import binary_cross_entropy, cross_entropy, log_probabilities, task_loss, two_column

SOFT = torch.tensor([[0.7, 0.3], [0.0, 1.0]], dtype=torch.float64)


def test_cross_entropy_with_hard_labels_is_minus_the_log_probability():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    expected = -math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(-1)))
    assert float(cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0]]))) == pytest.approx(expected, rel=1e-6)


def test_one_logit_equals_two_columns():
    logit = torch.tensor([[1.3], [-0.4]], dtype=torch.float64)
    one = binary_cross_entropy(logit, SOFT)
    assert torch.allclose(one, cross_entropy(two_column(logit, "binary"), SOFT), atol=1e-15)
    assert one.shape == (2,)


def test_extreme_logits_stay_finite():
    assert torch.isfinite(binary_cross_entropy(torch.tensor([[1e4], [-1e4]]), SOFT.float())).all()
    assert torch.isfinite(cross_entropy(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]), SOFT.float())).all()


def test_two_column_puts_the_logit_of_class_one_second():
    assert two_column(torch.tensor([[3.0]]), "binary").tolist() == [[0.0, 3.0]]
    logits = torch.zeros(2, 4)
    assert two_column(logits, "multiclass") is logits


def test_log_probabilities_of_both_heads():
    assert torch.allclose(log_probabilities(torch.zeros(1, 4)).exp(), torch.full((1, 4), 0.25))
    assert torch.allclose(log_probabilities(torch.tensor([[math.log(3.0)]])).exp(), torch.tensor([[0.25, 0.75]]))


def test_task_loss_by_head():
    assert task_loss("multiclass") is cross_entropy
    assert task_loss("binary") is binary_cross_entropy
    with pytest.raises(UsageError, match="head"):
        task_loss("regression")
    with pytest.raises(UsageError, match="head"):
        two_column(torch.zeros(1, 1), "regression")


@pytest.mark.parametrize(
    ("loss", "logits", "targets"),
    [
        (cross_entropy, (2, 3), (2, 2)),
        (cross_entropy, (2, 1), (2, 2)),
        (cross_entropy, (3, 2), (2, 2)),
        (cross_entropy, (2,), (2, 2)),
        (binary_cross_entropy, (2, 2), (2, 2)),
        (binary_cross_entropy, (2, 1), (2, 3)),
        (binary_cross_entropy, (1, 1), (2, 2)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(loss, logits, targets):
    with pytest.raises(UsageError, match="Expected"):
        loss(torch.zeros(logits), torch.zeros(targets))
