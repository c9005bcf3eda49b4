"""Slow twins of the utility metrics."""

import math

import numpy as np
import pytest

from sfumato.training.metrics import metric


def naive_probabilities(logits: list[float]) -> list[float]:
    weights = [math.exp(value) for value in logits]
    return [weight / sum(weights) for weight in weights]


def naive_calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Guo et al. (2017), equation 3: sum over 15 bins of (records in bin / records) * |accuracy - confidence|."""
    total = 0.0
    for number in range(15):
        inside = []
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            p = naive_probabilities(row)
            if number / 15 < max(p) <= (number + 1) / 15:
                inside.append((float(p.index(max(p)) == label), max(p)))
        if inside:
            gap = sum(right for right, _ in inside) / len(inside) - sum(c for _, c in inside) / len(inside)
            total += len(inside) / len(labels) * abs(gap)
    return total


def naive_auroc(scores: list[float], positive: list[bool]) -> float:
    pairs = [
        1.0 if s > t else 0.5 if s == t else 0.0
        for s, is_positive in zip(scores, positive, strict=True)
        for t, other_positive in zip(scores, positive, strict=True)
        if is_positive and not other_positive
    ]
    return sum(pairs) / len(pairs)


@pytest.fixture(params=[2, 3, 7], ids=lambda classes: f"{classes} classes")
def answers(request) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(request.param)
    labels = np.concatenate([np.arange(request.param), rng.integers(request.param, size=120)])
    logits = 2 * np.eye(request.param)[labels] + rng.normal(size=(len(labels), request.param))
    logits[1::2] = logits[: len(logits) // 2 * 2 : 2]  # exact ties
    return logits, labels


def test_calibration_error(answers):
    assert metric("calibration-error")(*answers) == pytest.approx(naive_calibration_error(*answers), abs=1e-12)


def test_auroc(answers):
    logits, labels = answers
    p = np.array([naive_probabilities(row) for row in logits.tolist()])
    areas = [naive_auroc(p[:, c].tolist(), (labels == c).tolist()) for c in range(logits.shape[1])]
    expected = sum(areas) / len(areas)
    assert metric("auroc")(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_log_loss_accuracy_and_balanced_accuracy(answers):
    logits, labels = answers
    rows = list(zip(logits.tolist(), labels.tolist(), strict=True))
    right = [float(row.index(max(row)) == label) for row, label in rows]
    by_class = [
        [r for r, (_, label) in zip(right, rows, strict=True) if label == c] for c in sorted(set(labels.tolist()))
    ]
    losses = [-math.log(naive_probabilities(row)[label]) for row, label in rows]
    assert metric("log-loss")(logits, labels) == pytest.approx(sum(losses) / len(losses))
    assert metric("accuracy")(logits, labels) == pytest.approx(sum(right) / len(right))
    expected = sum(sum(r) / len(r) for r in by_class) / len(by_class)
    assert metric("balanced-accuracy")(logits, labels) == pytest.approx(expected)
