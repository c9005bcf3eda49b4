"""Slow twins of HAMP, CCL and MemGuard, one number at a time, in Python floats."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.defences.ccl import CCL
from sfumato.defences.hamp import HAMP, reordered, top_mass
from sfumato.defences.memguard import attack_logit, distance, noise_probability, search_loss, sorted_scores
from sfumato.training.losses import binary_cross_entropy, cross_entropy

LOGITS = st.lists(st.floats(-15, 15), min_size=2, max_size=6)


def probabilities(logits):
    weights = [math.exp(value) for value in logits]
    return [weight / sum(weights) for weight in weights]


def naive_entropy(p):
    return -sum(value * math.log(value) for value in p if value > 0)


def naive_label(label, classes, top):
    return [top if k == label else (1 - top) / (classes - 1) for k in range(classes)]


def naive_hamp(logits, label, gamma, beta, *, official, steps):
    classes = len(logits)
    top = 1.0
    while naive_entropy(naive_label(label, classes, top)) < gamma * math.log(classes):
        top = max(1 / classes, round(top - 0.01, 10)) if steps else top - 1e-5
    p, q = probabilities(logits), naive_label(label, classes, top)
    divergence = sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True) if a > 0)
    return divergence / (classes if official else 1) - beta * naive_entropy(p)


@settings(max_examples=30, deadline=None)
@given(LOGITS, st.integers(0, 5), st.sampled_from([0.0, 0.3, 0.8, 0.95]), st.floats(0, 2), st.booleans(), st.booleans())
def test_hamp(logits, label, gamma, beta, official, steps):
    label %= len(logits)
    defence = HAMP(gamma=gamma, beta=beta, official_steps=steps, reduction="official" if official else "batch")
    target = torch.eye(len(logits), dtype=torch.float64)[[label]]
    loss = defence.loss(torch.tensor([logits], dtype=torch.float64), target, cross_entropy)
    expected = naive_hamp(logits, label, gamma, beta, official=official, steps=steps)
    assert math.isclose(float(loss), expected, abs_tol=1e-9 if steps else 2e-3)  # the twin's own steps are of 1e-5


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.95, 0.999])
def test_the_top_mass_is_the_largest_that_keeps_the_entropy(classes, gamma):
    top = top_mass(gamma, classes)
    bound = gamma * math.log(classes)
    assert naive_entropy(naive_label(0, classes, top)) >= bound - 1e-12
    assert naive_entropy(naive_label(0, classes, top + 1e-6)) < bound


@settings(max_examples=50, deadline=None)
@given(
    st.integers(2, 6).flatmap(lambda n: st.tuples(*[st.lists(st.floats(-3, 3, width=32), min_size=n, max_size=n)] * 2))
)
def test_reordered_scores_keep_the_ranking_and_are_those_of_the_noise(pair):
    scores, like = pair
    got = reordered(torch.tensor([scores]), torch.tensor([like]))[0].tolist()
    ranking = sorted(range(len(like)), key=lambda k: -like[k])  # Python's sort is stable: ties from left to right
    falling = sorted(scores, reverse=True)
    assert sorted(range(len(got)), key=lambda k: -got[k]) == ranking
    assert len(set(got)) == len(got)
    for rank, k in enumerate(ranking):
        assert got[k] == pytest.approx(falling[rank], abs=1e-5)
        assert got[k] == falling[rank] or len(set(scores)) < len(scores)


def naive_ccl(logits, label, alpha, scale, form, focusing):
    p = probabilities(logits)[label]
    convex = -math.log(p) * (1 - p) ** focusing
    bent = math.exp(p) if form == "exponential" else p + p * p / 2
    return scale * (alpha * convex - (1 - alpha) * bent)


@settings(max_examples=50, deadline=None)
@given(
    LOGITS,
    st.floats(0, 1),
    st.floats(0.01, 2),
    st.sampled_from(["exponential", "quadratic"]),
    st.sampled_from([0, 1, 2]),
)
def test_ccl(logits, alpha, scale, form, focusing):
    defence = CCL(alpha=alpha, scale=scale, form=form, focusing=focusing)
    classes = len(logits)
    outputs = torch.tensor([logits] * classes, dtype=torch.float64)
    losses = defence.loss(outputs, torch.eye(classes, dtype=torch.float64), cross_entropy)
    for label in range(classes):
        expected = naive_ccl(logits, label, alpha, scale, form, focusing)
        assert math.isclose(float(losses[label]), expected, abs_tol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(-12, 12))
def test_the_one_logit_head_has_the_losses_of_two_logits(logit):
    one = torch.tensor([[logit]], dtype=torch.float64).expand(2, 1)
    two = torch.tensor([[0.0, logit]], dtype=torch.float64).expand(2, 2)
    targets = torch.eye(2, dtype=torch.float64)
    for defence in (CCL(), CCL(focusing=2, form="quadratic"), HAMP(), HAMP(reduction="batch", beta=0.5)):
        binary = defence.loss(one, targets, binary_cross_entropy)
        assert torch.allclose(binary, defence.loss(two, targets, cross_entropy), atol=1e-10)


def naive_attack(layers, scores):
    h = scores
    for number, (weights, biases) in enumerate(layers):
        h = [sum(w * v for w, v in zip(row, h, strict=True)) + b for row, b in zip(weights, biases, strict=True)]
        h = [max(v, 0.0) for v in h] if number + 1 < len(layers) else h
    return h[0]


def test_the_objective_of_memguards_search():
    generator = torch.Generator().manual_seed(3)
    shapes = ((4, 5), (3, 4), (1, 3))
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    biases = [torch.randn(shape[0], generator=generator, dtype=torch.float64) for shape in shapes]
    state = {f"weight.{n}": w for n, w in enumerate(weights)} | {f"bias.{n}": b for n, b in enumerate(biases)}
    z = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    start = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    label = torch.arange(8) % 5

    told = attack_logit(state, sorted_scores(z))
    got = search_loss(told, z, label, start.softmax(1), 0.7)
    layers = [(w.tolist(), b.tolist()) for w, b in zip(weights, biases, strict=True)]
    for row in range(8):
        now, plain = z[row].tolist(), probabilities(start[row].tolist())
        logit = naive_attack(layers, sorted(probabilities(now), reverse=True))
        own = now[int(label[row])]
        other = max(v for k, v in enumerate(now) if k != int(label[row]))
        far = sum(abs(a - b) for a, b in zip(probabilities(now), plain, strict=True))
        assert float(told[row]) == pytest.approx(logit, abs=1e-10)
        assert float(got[row]) == pytest.approx(abs(logit) + 10 * max(0.0, other - own) + 0.7 * far, abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 2), st.floats(0, 2))
def test_the_probability_of_memguards_noise_solves_its_linear_programme(before, after, far, budget):
    got = float(noise_probability(*(torch.tensor([v], dtype=torch.float64) for v in (before, after, far)), budget))

    def told(p):
        return (1 - p) * abs(before - 0.5) + p * abs(after - 0.5)

    feasible = [p / 1000 for p in range(1001) if p / 1000 * far <= budget]
    assert 0 <= got <= 1
    assert got * far <= budget + 1e-12
    assert told(got) <= min(map(told, feasible)) + 1e-12


def test_the_distance_is_that_of_the_scores():
    first, second = [1.0, 0.0, -2.0], [0.0, 3.0, 0.5]
    expected = sum(abs(a - b) for a, b in zip(probabilities(first), probabilities(second), strict=True))
    assert float(distance(torch.tensor([first]), torch.tensor([second]))) == pytest.approx(expected, abs=1e-6)
