"""The local bound against samples of the block itself: met for linear drift, never exceeded, broken builds caught.

Error rates: each comparison with a known value allows 5 standard errors, each lower bound fails with probability 0.001
at most; the noise is seeded, so a run does not draw again.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.accounting.local import gaussian_delta, local_mu
from sfumato.audit.epsilon.clopper_pearson import clopper_pearson_bound
from sfumato.audit.epsilon.thresholds import HalfSplit
from sfumato.sde import private_input
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.integrate import Grid
from sfumato.sde.private_input import PrivateInputBlock
from sfumato.sde.streams import set_noise
from sfumato.training.draws import Draws

pytestmark = pytest.mark.statistical
SAMPLES, RADIUS, DELTA = 40_000, 1.5, 0.01


def answers(block, start, name):
    """float64 [samples, *shape]: h_N from one input, many times."""
    set_noise(block, Draws((7,), (name,)))
    with torch.no_grad():
        return block(start.expand(SAMPLES, *start.shape)).double()


def line(slope, steps, sigma):
    """h -> (1 + slope dt) h in one dimension, with the constant enforced at |slope|."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, slope)
    grid = Grid(horizon=1.0, steps=steps)
    return PrivateInputBlock(
        [layer], grid, Additive(sigma=sigma), radius=RADIUS, lipschitz=max(abs(slope), 0.5), shape=(1,)
    ).double()


@pytest.mark.parametrize("steps", [10, 100])
@pytest.mark.parametrize("slope", [-1.0, 0.0, 1.0, 3.0])
def test_linear_drift_meets_the_bound(slope, steps):
    """mu, the hockey-stick divergence at three epsilons, and a Renyi divergence, all of the worst pair."""
    block = line(slope, steps, sigma=3.0)
    path = block.guarantee(DELTA, queries=1).path
    mu = local_mu(2 * RADIUS, path)
    far = torch.tensor([10.0], dtype=torch.float64)
    up, down = answers(block, far, "up").flatten(), answers(block, -far, "down").flatten()
    spread = float(torch.cat([up - up.mean(), down - down.mean()]).std())
    error = math.sqrt(2 / SAMPLES + mu**2 / (4 * SAMPLES))
    assert float(up.mean() - down.mean()) / spread == pytest.approx(mu, abs=5 * error + 1e-4 * mu)
    middle, order = float(up.mean() + down.mean()) / 2, 1.5
    for epsilon in (0.0, 0.3, 1.0):
        threshold = middle + epsilon / mu * spread  # where the ratio of densities is e^epsilon
        high, low = float((up > threshold).double().mean()), float((down > threshold).double().mean())
        error = math.sqrt((high * (1 - high) + math.exp(2 * epsilon) * low * (1 - low)) / SAMPLES)
        assert high - math.exp(epsilon) * low == pytest.approx(gaussian_delta(epsilon, mu), abs=5 * error + 1e-4)
    ratio = torch.exp((order - 1) * mu / spread * (up - middle))  # under the first, (p / q)^(order - 1)
    error = float(ratio.std() / ratio.mean()) / math.sqrt(SAMPLES) / (order - 1)
    assert float(ratio.mean().log()) / (order - 1) == pytest.approx(order * mu**2 / 2, abs=6 * error + 1e-3)


def curved(sigma=4.0, kind=PrivateInputBlock, **more):
    """Drift that is not linear, expansive and as steep as it may be near the origin, in five dimensions."""
    layer = nn.Linear(5, 5, bias=False)
    with torch.no_grad():
        layer.weight.copy_(50 * torch.eye(5))
    given = {"radius": RADIUS, "lipschitz": 1.0, "shape": (5,)} | more
    return kind([layer, nn.Tanh()], Grid(horizon=1.0, steps=8), Additive(sigma=sigma), **given)


def lower(block, start):
    up, down = answers(block, start, "up"), answers(block, -start, "down")
    direction = start.double() / start.norm()
    given = {"independent_trials": True, "delta": DELTA, "confidence": 0.999, "rng": np.random.default_rng(0)}
    return clopper_pearson_bound((up @ direction).numpy(), (down @ direction).numpy(), HalfSplit(), **given).value


@pytest.mark.parametrize("far", [1.0, 100.0])
def test_drift_that_is_not_linear_stays_below_and_is_not_far_from_it(far):
    block = curved()
    found, claim = lower(block, far * torch.eye(5)[0]), block.guarantee(DELTA, queries=1).epsilon
    assert 0.2 * claim < found <= claim


def test_the_mean_of_several_answers_exceeds_the_claim_for_one_and_stays_below_the_composed_one():
    queries = 16
    block = curved(sigma=4.0 * math.sqrt(queries))
    start = 100 * torch.eye(5)[0]
    means = [
        answers(block, side * start, name)[:, 0].reshape(-1, queries).mean(1).numpy()
        for side, name in ((1, "up"), (-1, "down"))
    ]
    given = {"independent_trials": True, "delta": DELTA, "confidence": 0.999, "rng": np.random.default_rng(0)}
    found = clopper_pearson_bound(*means, HalfSplit(), **given).value
    assert block.guarantee(DELTA, queries=1).epsilon < found <= block.guarantee(DELTA, queries=queries).epsilon


class Quiet(PrivateInputBlock):
    """Half of the noise that it states."""

    def _normals(self):
        drawn = super()._normals()
        return lambda step, h: drawn(step, h) / 2


def test_too_little_noise_is_caught():
    block = curved(kind=Quiet)
    assert lower(block, 100 * torch.eye(5)[0]) > block.guarantee(DELTA, queries=1).epsilon


def test_a_radius_that_is_not_enforced_is_caught(monkeypatch):
    monkeypatch.setattr(private_input, "within", lambda h, radius: h)
    block = curved()
    assert lower(block, 10 * torch.eye(5)[0]) > block.guarantee(DELTA, queries=1).epsilon


class Steep(PrivateInputBlock):
    """Divides no weight, and says that it did."""

    def _drift(self):
        return super()._drift()._replace(apply=lambda h: torch.tanh(h @ self.layers[0].weight.T))


def test_a_constant_that_is_not_enforced_is_caught():
    """Where the drift lifts a small input before the noise has covered it."""
    block = curved(kind=Steep, radius=0.05, sigma=0.4)
    assert lower(block, torch.eye(5)[0]) > block.guarantee(DELTA, queries=1).epsilon
