import math

import pytest
import torch

from sfumato.defences.confidence_penalty import ConfidencePenalty, entropy
from sfumato.errors import UsageError
from sfumato.training.losses import binary_cross_entropy, cross_entropy


def test_entropy_of_uniform_and_of_certain_answers():
    assert float(entropy(torch.zeros(1, 8))) == pytest.approx(math.log(8))
    assert float(entropy(torch.tensor([[0.0, 500.0]]))) == 0.0
    assert float(entropy(torch.zeros(1, 1))) == pytest.approx(math.log(2))


def test_the_penalty_is_strength_times_entropy():
    logits, targets = torch.zeros(1, 4), torch.eye(4)[:1]
    loss = ConfidencePenalty(strength=0.5).loss(logits, targets, cross_entropy)
    assert float(loss) == pytest.approx(math.log(4) - 0.5 * math.log(4))


def test_one_logit_head():
    loss = ConfidencePenalty(strength=1.0).loss(torch.zeros(1, 1), torch.eye(2)[:1], binary_cross_entropy)
    assert float(loss) == pytest.approx(0.0, abs=1e-7)


def test_range():
    with pytest.raises(UsageError, match="strength"):
        ConfidencePenalty(strength=-1.0)
