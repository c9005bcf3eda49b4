"""Slow twins of negative label smoothing, MID, BiDO and Trap-MID, one number at a time, in Python floats."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.defences.bido import BiDO
from sfumato.defences.mid import divergence, law
from sfumato.defences.negative_label_smoothing import NegativeLabelSmoothing
from sfumato.defences.trap_mid import Triggers
from sfumato.training.losses import binary_cross_entropy, cross_entropy
from sfumato.training.seen import Seen

LOGITS = st.lists(st.floats(-15, 15), min_size=2, max_size=6)


def probabilities(logits):
    weights = [math.exp(value - max(logits)) for value in logits]
    return [weight / sum(weights) for weight in weights]


def naive_schedule(epoch):
    """Of the official code, for 100 epochs."""
    if epoch < 50:
        return 0.0
    return (epoch + 1 - 50) / (100 - 50) if epoch < 75 else 1.0


@settings(max_examples=40, deadline=None)
@given(LOGITS, st.integers(0, 5), st.floats(-1, -1e-3), st.integers(0, 99))
def test_negative_label_smoothing(logits, label, smoothing, epoch):
    label, a = label % len(logits), smoothing * naive_schedule(epoch)
    p = probabilities(logits)
    expected = -(1 - a) * math.log(p[label]) - a * sum(math.log(value) for value in p) / len(p)
    targets = torch.eye(len(logits), dtype=torch.float64)[[label]]
    seen = Seen(torch.tensor([logits], dtype=torch.float64), targets, epoch=epoch, epochs=100)
    found = NegativeLabelSmoothing(smoothing=smoothing).objective(seen, lambda s: cross_entropy(s.outputs, s.targets))
    assert float(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("label", [0, 1])
def test_negative_label_smoothing_of_the_one_logit_head_is_that_of_two_classes(label):
    targets, z = torch.eye(2, dtype=torch.float64)[[label]], torch.tensor([[1.7]], dtype=torch.float64)
    defence = NegativeLabelSmoothing(schedule="constant")
    one = defence.objective(Seen(z, targets), lambda s: binary_cross_entropy(s.outputs, s.targets))
    both = torch.cat([torch.zeros_like(z), z], dim=1)
    two = defence.objective(Seen(both, targets), lambda s: cross_entropy(s.outputs, s.targets))
    assert torch.allclose(one, two)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.3, 0.2), (-2.0, 2.5)])
def test_the_divergence_of_mid_is_the_integral(mean, std):
    grid = np.linspace(mean - 12 * std, mean + 12 * std, 20001)
    log_p = -0.5 * ((grid - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
    log_q = -0.5 * grid**2 - 0.5 * math.log(2 * math.pi)
    expected = float(np.trapezoid(np.exp(log_p) * (log_p - log_q), grid))
    one = divergence(torch.tensor([[mean]], dtype=torch.float64), torch.tensor([[std]], dtype=torch.float64))
    assert float(one) == pytest.approx(expected, abs=1e-7)
    twice = divergence(torch.full((1, 2), mean, dtype=torch.float64), torch.full((1, 2), std, dtype=torch.float64))
    assert float(twice) == pytest.approx(2 * expected, abs=1e-7)


def test_the_law_of_mid_is_read_as_the_official_code_reads_it():
    found = law(torch.tensor([[0.5, -1.0, 3.0, 7.0]], dtype=torch.float64))
    assert found.mean[0].tolist() == [0.5, -1.0]
    assert found.std[0].tolist() == pytest.approx([math.log1p(math.exp(-2)), math.log1p(math.exp(2))])


def naive_kernel(rows, sigma):
    squared = [[sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for v in rows] for u in rows]
    return np.array([[math.exp(-d / (2 * sigma * sigma * len(rows[0]))) for d in line] for line in squared])


def naive_linear(rows):
    return np.array([[sum(a * b for a, b in zip(u, v, strict=True)) for v in rows] for u in rows])


def naive_dependence(measure, first, second):
    """As the official code writes it, with kernels centred from one side (HSIC) or from both (COCO)."""
    m = len(first)
    centring = np.eye(m) - np.ones((m, m)) / m
    if measure == "coco":
        product = centring @ first @ centring @ centring @ second @ centring
        return math.sqrt(math.sqrt(float((product**2).sum()))) / m
    ridge = 1e-5 * m * np.eye(m)
    parts = [kernel @ centring @ np.linalg.inv(kernel @ centring + ridge) for kernel in (first, second)]
    return float(np.trace(parts[0] @ parts[1]))


@pytest.mark.parametrize("measure", ["hsic", "coco"])
@pytest.mark.parametrize("models", [1, 2])
def test_bido(measure, models):
    rng, m, classes = np.random.default_rng(3), 7, 3
    x, states = rng.random((models * m, 2, 2)), [rng.normal(size=(models * m, size)) for size in (4, 6)]
    labels, logits = rng.integers(0, classes, models * m), rng.normal(size=(models * m, classes))
    targets = np.eye(classes)[labels]
    heard = {f"bido/{number}": torch.from_numpy(state) for number, state in enumerate(states)}
    seen = Seen(
        torch.from_numpy(logits), torch.from_numpy(targets), models=models, inputs=torch.from_numpy(x), heard=heard
    )
    defence = BiDO(input_weight=0.3, label_weight=0.7, measure=measure, sigma=0.8)
    found = defence.objective(seen, lambda s: cross_entropy(s.outputs, s.targets))
    for model in range(models):
        own = slice(model * m, model * m + m)
        total = 0.0
        for state in states:
            of_state = naive_kernel(state[own].tolist(), 0.8)
            of_inputs = naive_kernel(x[own].reshape(m, -1).tolist(), 0.8)
            total += 0.3 * naive_dependence(measure, of_inputs, of_state)
            total -= 0.7 * naive_dependence(measure, of_state, naive_linear(targets[own].tolist()))
        for row in range(model * m, model * m + m):
            ordinary = -math.log(probabilities(logits[row].tolist())[labels[row]])
            assert float(found[row]) == pytest.approx(ordinary + total, abs=1e-6)


def test_a_trap_is_a_record_with_a_little_of_its_trigger():
    torch.manual_seed(0)
    triggers, x, labels = Triggers(3, (1, 2, 2)), torch.rand(2, 1, 2, 2), torch.tensor([2, 0])
    made = triggers(x, labels, 0.02).detach()
    for row in range(2):
        for i, j in np.ndindex(2, 2):
            trigger = float(triggers.images.detach()[labels[row], 0, i, j])
            assert float(made[row, 0, i, j]) == pytest.approx(0.98 * float(x[row, 0, i, j]) + 0.02 * trigger)
