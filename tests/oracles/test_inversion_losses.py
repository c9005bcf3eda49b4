"""Naive twins of what white-box inversion attacks minimise, obey and draw: one record at a time, in plain Python."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from sfumato.attacks.inversion.generators.ked_gan import log_realness
from sfumato.attacks.inversion.generators.plg_gan import max_margin
from sfumato.attacks.inversion.gmi import gmi_loss
from sfumato.attacks.inversion.if_gmi import into_l1_ball
from sfumato.attacks.inversion.ked_mi import drawn_latents, ked_loss
from sfumato.attacks.inversion.latent_descent import log_confidence
from sfumato.attacks.inversion.lomma import feature_distance, negative_logits, wanted_features
from sfumato.attacks.inversion.miface import Descent, Slope, descend, stops
from sfumato.attacks.inversion.ppa import poincare_loss, robust_confidence
from sfumato.attacks.inversion.students import FeaturePrior
from sfumato.attacks.inversion.views import DRAWS, Views

ROWS, CLASSES = 6, 4


@pytest.fixture
def logits():
    return torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


@pytest.fixture
def labels():
    return torch.tensor([3, 0, 2, 2, 1, 3])  # never 0, 1, 2, ...: row i at column i would be another number


def softmax(row):
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def test_the_confidence_is_read_at_the_label_and_not_at_the_row(logits, labels):
    expected = [math.log(softmax(row.tolist())[int(y)]) for row, y in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(log_confidence(logits, labels), expected, rtol=1e-12)


def test_poincare_loss(logits, labels):
    for row, y, loss in zip(logits.tolist(), labels.tolist(), poincare_loss(logits, labels).tolist(), strict=True):
        total = sum(abs(value) for value in row)
        u = [value / total for value in row]
        v = [min(max((1.0 if j == y else 0.0) - 1e-4, 0.0), 1.0) for j in range(len(row))]
        apart = sum((a - b) ** 2 for a, b in zip(u, v, strict=True))
        room = (1 - sum(a * a for a in u)) * (1 - sum(b * b for b in v))
        assert loss == pytest.approx(math.acosh(1 + 2 * apart / room), rel=1e-9)


def test_the_poincare_loss_has_a_gradient_where_one_logit_is_all_there_is():
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 4.0, 0.0]], requires_grad=True)
    loss = poincare_loss(logits, torch.tensor([0, 0, 0]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert loss[0] < loss[1] < loss[2]


def test_max_margin(logits, labels):
    for row, y, loss in zip(logits.tolist(), labels.tolist(), max_margin(logits, labels).tolist(), strict=True):
        assert loss == pytest.approx(max(value for j, value in enumerate(row) if j != y) - row[y], rel=1e-12)


def test_gmi_loss(logits, labels):
    realism = torch.linspace(-2, 2, ROWS, dtype=torch.float64)
    for i, loss in enumerate(gmi_loss(realism, logits, labels, 100.0).tolist()):
        entropy = -math.log(softmax(logits[i].tolist())[int(labels[i])])
        assert loss == pytest.approx(-float(realism[i]) + 100 * entropy, rel=1e-9)


def test_ked_loss_is_softplus_of_the_evidence_less_the_evidence(logits, labels):
    critic = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for i, loss in enumerate(ked_loss(log_realness(critic), logits, labels, 100.0).tolist()):
        evidence = math.log(sum(math.exp(value) for value in critic[i].tolist()))
        realism = math.log(1 + math.exp(evidence)) - evidence
        entropy = -math.log(softmax(logits[i].tolist())[int(labels[i])])
        assert loss == pytest.approx(realism + 100 * entropy, rel=1e-9)


def test_latents_are_drawn_from_the_distribution_of_their_class():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator)
    noise = torch.randn(2, 4, 3, generator=generator)
    z = drawn_latents(mean, log_variance, noise)
    for q in range(2):
        for draw in range(4):
            for d in range(3):
                deviation = math.sqrt(math.exp(float(log_variance[q, d])))
                expected = float(mean[q, d]) + deviation * float(noise[q, draw, d])
                assert float(z[q, draw, d]) == pytest.approx(expected, rel=1e-5)


def test_lomma_raises_the_mean_logit_and_holds_features(logits, labels):
    several = torch.stack([logits, 2 * logits, logits.flip(1)])
    for i, loss in enumerate(negative_logits(several, labels).tolist()):
        own = [float(model[i, int(labels[i])]) for model in several]
        assert loss == pytest.approx(-sum(own) / 3, rel=1e-12)
    features, wanted = logits, logits.roll(1, dims=0)
    for i, distance in enumerate(feature_distance(features, wanted).tolist()):
        squares = [(float(a) - float(b)) ** 2 for a, b in zip(features[i], wanted[i], strict=True)]
        assert distance == pytest.approx(sum(squares) / len(squares), rel=1e-12)


def test_lomma_wants_the_mean_of_features_unless_told_to_draw():
    prior = FeaturePrior(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]))
    noise = torch.tensor([[1.0, 2.0], [-1.0, 0.0]])
    assert wanted_features(prior, noise, sampled=False).tolist() == [[1.0, -2.0], [1.0, -2.0]]
    assert wanted_features(prior, noise, sampled=True).tolist() == [[1.5, 4.0], [0.5, -2.0]]


@pytest.mark.parametrize("radius", [0.3, 1.0, 4.0])
def test_the_projection_onto_an_l1_ball_is_the_nearest_point(radius):
    rng = np.random.default_rng(0)
    change = rng.normal(size=(4, 5))
    found = into_l1_ball(torch.from_numpy(change), radius).numpy()
    assert (np.abs(found).sum(axis=1) <= radius + 1e-9).all()
    for row, point in zip(change, found, strict=True):
        if np.abs(row).sum() <= radius:
            np.testing.assert_allclose(point, row, atol=1e-12)
            continue
        # positive and negative parts apart make the ball a simplex, which a general solver can do
        start = np.full(10, radius / 20)
        best = minimize(
            lambda parts, row=row: np.square(parts[:5] - parts[5:] - row).sum(),
            start,
            bounds=[(0, None)] * 10,
            constraints={"type": "ineq", "fun": lambda parts: radius - parts.sum()},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(point, best.x[:5] - best.x[5:], atol=1e-5)


def naive_walk(costs_of, x, rate, steps, window, threshold):
    """The rule of the paper, one number at a time: a float, its cost and gradient, and a list of all costs."""
    costs, best, lowest = [], x, math.inf
    for step in range(steps + 1):
        cost, gradient = costs_of(x)
        if cost < lowest:
            best, lowest = x, cost
        last = costs[-window:]
        if (len(last) == window and cost >= max(last)) or cost <= threshold:
            return best, lowest, step
        costs.append(cost)
        x = min(max(x - rate * gradient, 0.0), 1.0)
    return best, lowest, steps


@pytest.mark.parametrize("window", [1, 3, 10])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_the_stopping_rule_of_miface(window, threshold):
    def bumpy(x):
        return 0.5 + 0.4 * math.sin(9 * x) + 0.2 * x, 3.6 * math.cos(9 * x) + 0.2

    def slopes(x, walks):
        both = [bumpy(float(value)) for value in x[:, 0]]
        return Slope(
            torch.tensor([b[0] for b in both], dtype=x.dtype), torch.tensor([[b[1]] for b in both], dtype=x.dtype)
        )

    starts = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    descent = Descent(steps=40, learning_rate=0.15, window=window, threshold=threshold, stop=True)
    walked = descend(slopes, starts, lambda x: x.clamp(0, 1), descent)
    naive = [naive_walk(bumpy, float(start), 0.15, 40, window, threshold) for start in starts]
    np.testing.assert_allclose(walked.best[:, 0], [walk[0] for walk in naive], atol=1e-9)
    np.testing.assert_allclose(walked.cost, [walk[1] for walk in naive], atol=1e-9)
    assert walked.steps.tolist() == [walk[2] for walk in naive]
    assert len(set(walked.steps.tolist())) > 1 or window == 10


def test_a_walk_goes_on_only_while_the_cost_beats_the_worst_and_is_not_low_enough():
    last = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.7, 0.7, 0.7, 0.7]])
    cost = torch.tensor([0.6, 0.7, 0.8, 0.05])
    assert stops(cost, last, 0.1).tolist() == [False, True, True, True]


def test_views_look_where_they_say():
    height, width = 6, 10
    down, right = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    x = torch.from_numpy((0.3 * down + 0.5 * right) / 10)[None, None].float()
    views = Views(area=(0.3, 0.8), ratio=(0.8, 1.25), mirror=0.5)
    draws = torch.rand(8, DRAWS, generator=torch.Generator().manual_seed(0))
    seen = views.of(x.expand(8, -1, -1, -1), draws)
    for view, draw in zip(seen, draws.double().tolist(), strict=True):
        area, ratio = 0.3 + 0.5 * draw[0], 0.8 * (1.25 / 0.8) ** draw[1]
        w, h = min(1.0, math.sqrt(area * ratio)) * width, min(1.0, math.sqrt(area / ratio)) * height
        left, top = draw[2] * (width - w), draw[3] * (height - h)
        for i in range(height):
            for j in range(width):
                column = (j + 0.5) / width * w
                column = left + (w - column if draw[4] < 0.5 else column) - 0.5
                row = top + (i + 0.5) / height * h - 0.5
                row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
                assert float(view[0, i, j]) == pytest.approx((0.3 * row + 0.5 * column) / 10, abs=1e-4)


def test_jitter_scales_brightness_then_contrast_about_the_mean():
    x = torch.tensor([[0.1, 0.2], [0.4, 0.5]])[None, None]
    draws = torch.full((1, DRAWS), 0.5)
    draws[0, 6], draws[0, 7] = 1.0, 0.25  # brightness times 1.2, contrast times 0.9
    mean = 1.2 * 0.3
    expected = [[mean + 0.9 * (1.2 * pixel - mean) for pixel in row] for row in ((0.1, 0.2), (0.4, 0.5))]
    np.testing.assert_allclose(Views(jitter=0.2).of(x, draws)[0, 0], expected, atol=1e-6)
    draws[0, 7] = 1.0
    assert Views(jitter=1.0).of(x, draws).max() == 1.0


def test_robust_confidence_is_the_mean_over_views(logits):
    class Model:
        def logits(self, x):
            return x.flatten(1) @ weights

    weights = torch.randn(16, 3, generator=torch.Generator().manual_seed(2))
    x = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    labels, views = torch.tensor([2, 2, 0, 1]), Views(area=(0.5, 0.9), mirror=0.5)
    draws = torch.rand(3, 4, DRAWS, generator=torch.Generator().manual_seed(4))
    found = robust_confidence(Model(), x, labels, views, draws)
    for i in range(4):
        each = []
        for view in range(3):
            one = views.of(x[i : i + 1], draws[view, i : i + 1]).flatten(1) @ weights
            each.append(float(F.softmax(one[0], dim=0)[labels[i]]))
        assert float(found[i]) == pytest.approx(sum(each) / 3, rel=1e-5)
