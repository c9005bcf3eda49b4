import pytest
import torch

from sfumato.defences.label_smoothing import LabelSmoothing, smoothed
from sfumato.errors import UsageError
from sfumato.training.losses import binary_cross_entropy, cross_entropy


def test_smoothed_labels():
    assert torch.allclose(smoothed(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.2), torch.tensor([[0.85, 0.05, 0.05, 0.05]]))


def test_equals_torchs_own_label_smoothing():
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    loss = LabelSmoothing(smoothing=0.3).loss(logits, torch.eye(4)[labels], cross_entropy)
    assert torch.allclose(loss, torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.3)(logits, labels))


def test_one_logit_head_is_smoothed_over_two_classes():
    loss = LabelSmoothing(smoothing=1.0).loss(torch.zeros(1, 1), torch.tensor([[0.0, 1.0]]), binary_cross_entropy)
    assert float(loss) == pytest.approx(0.6931472)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan")])
def test_range(smoothing):
    with pytest.raises(UsageError, match="smoothing"):
        LabelSmoothing(smoothing=smoothing)
