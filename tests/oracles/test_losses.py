"""Slow twins of the per-example losses, one number at a time, in Python floats."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.defences.confidence_penalty import ConfidencePenalty
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.training.losses import binary_cross_entropy, cross_entropy

LOGITS = st.lists(st.floats(-20, 20), min_size=2, max_size=5)


def probabilities(logits: list[float]) -> list[float]:
    weights = [math.exp(value) for value in logits]
    return [weight / sum(weights) for weight in weights]


def naive_cross_entropy(logits: list[float], target: list[float]) -> float:
    return -sum(t * math.log(p) for t, p in zip(target, probabilities(logits), strict=True))


def hard(classes: int) -> list[float]:
    return [1.0, *[0.0] * (classes - 1)]


def tensors(logits: list[float], target: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([logits], dtype=torch.float64), torch.tensor([target], dtype=torch.float64)


@settings(max_examples=50, deadline=None)
@given(LOGITS)
def test_cross_entropy(logits):
    soft = probabilities(logits[::-1])
    for target in (hard(len(logits)), soft):
        assert math.isclose(
            float(cross_entropy(*tensors(logits, target))), naive_cross_entropy(logits, target), abs_tol=1e-9
        )


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20), st.floats(0, 1))
def test_binary_cross_entropy(logit, share):
    one = 1 / (1 + math.exp(-logit))
    zero = 1 / (1 + math.exp(logit))
    expected = -share * math.log(one) - (1 - share) * math.log(zero)
    assert math.isclose(float(binary_cross_entropy(*tensors([logit], [1 - share, share]))), expected, abs_tol=1e-9)


@settings(max_examples=50, deadline=None)
@given(LOGITS, st.floats(0, 1))
def test_label_smoothing(logits, smoothing):
    """(1 - s) * CE + s * mean over classes of minus the log-probability."""
    target = hard(len(logits))
    uniform = sum(-math.log(p) for p in probabilities(logits)) / len(logits)
    expected = (1 - smoothing) * naive_cross_entropy(logits, target) + smoothing * uniform
    loss = LabelSmoothing(smoothing=smoothing).loss(*tensors(logits, target), cross_entropy)
    assert math.isclose(float(loss), expected, abs_tol=1e-9)


@settings(max_examples=50, deadline=None)
@given(LOGITS, st.floats(0, 2))
def test_confidence_penalty(logits, strength):
    target = hard(len(logits))
    entropy = -sum(p * math.log(p) for p in probabilities(logits))
    expected = naive_cross_entropy(logits, target) - strength * entropy
    loss = ConfidencePenalty(strength=strength).loss(*tensors(logits, target), cross_entropy)
    assert math.isclose(float(loss), expected, abs_tol=1e-9)
