"""Our integrators against torchdiffeq on the same grid, and against torchsde with the same Brownian increments."""

import itertools
import math

import pytest
import torch
from torch import nn

from sfumato.sde import Grid, SDEBlock, System, integrate
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.drifts.convolutional import ConvDrift
from sfumato.sde.drifts.dense import DenseDrift
from sfumato.sde.integrate import given
from sfumato.sde.integrators.adaptive import Adaptive
from sfumato.sde.integrators.choice import integrator_named

torchdiffeq = pytest.importorskip("torchdiffeq", reason="torchdiffeq is an optional extra")
torchsde = pytest.importorskip("torchsde", reason="torchsde is an optional extra")

f64 = torch.float64
STEPS = 20


def setup(seed=0):
    torch.manual_seed(seed)
    return DenseDrift(4, 6).to(f64), torch.randn(3, 4, dtype=f64)


def gradients(out, drift, h):
    return torch.autograd.grad(out.square().sum(), [h, *drift.parameters()])


@pytest.mark.parametrize("name", ["euler", "midpoint", "rk4"])
def test_torchdiffeq_on_the_same_grid(name):
    """Its rk4 is Kutta's 3/8 rule, another method of order 4: equal to 1e-6 here; the others to rounding."""
    drift, h = setup()
    h.requires_grad_()
    out = integrate(integrator_named(name), System(drift), h, Grid(horizon=1.5, steps=STEPS))
    ends = torch.tensor([0.0, 1.5], dtype=f64)
    theirs = torchdiffeq.odeint(
        lambda t, y: drift(float(t.detach()), y), h, ends, method=name, options={"step_size": 1.5 / STEPS}
    )[-1]
    tolerance = 1e-6 if name == "rk4" else 1e-10
    torch.testing.assert_close(out, theirs, rtol=tolerance, atol=tolerance)
    for ours, other in zip(gradients(out, drift, h), gradients(theirs, drift, h), strict=True):
        torch.testing.assert_close(ours, other, rtol=10 * tolerance, atol=10 * tolerance)


def test_adaptive_is_dopri5_on_the_whole_interval():
    drift, h = setup()
    out = integrate(Adaptive(rtol=1e-6, atol=1e-6), System(drift), h, Grid(steps=1))
    theirs = torchdiffeq.odeint(
        lambda t, y: drift(float(t.detach()), y), h, torch.tensor([0.0, 1.0], dtype=f64), rtol=1e-6, atol=1e-6
    )[-1]
    assert torch.equal(out, theirs)
    fine = integrate(integrator_named("rk4"), System(drift), h, Grid(steps=50))
    torch.testing.assert_close(out, fine, rtol=1e-5, atol=1e-5)


class Equation(nn.Module):
    """The same equation for torchsde."""

    noise_type = "diagonal"

    def __init__(self, drift, diffusion, calculus):
        super().__init__()
        self.drift, self.diffusion, self.sde_type = drift, diffusion, calculus

    def f(self, t, y):
        return self.drift(float(t), y)

    def g(self, t, y):
        return self.diffusion(float(t), y)


class Motion:
    """A Brownian motion that is called as torchsde's, with increments that were drawn beforehand."""

    levy_area_approximation = "none"

    def __init__(self, increments, dt):
        self.increments, self.dt, self.steps = increments, dt, itertools.count()
        self.shape, self.dtype, self.device = increments.shape[1:], increments.dtype, increments.device

    def __call__(self, start, end):
        step = next(self.steps)
        assert float(start) == pytest.approx(step * self.dt, abs=1e-6)
        assert float(end) == pytest.approx((step + 1) * self.dt, abs=1e-6)
        return self.increments[step]


DIFFUSIONS = {
    "additive": (lambda t, h: torch.full_like(h, 0.4), lambda t, h: 0.0),
    "in time": (lambda t, h: torch.full_like(h, 0.4 * (1 + t)), lambda t, h: 0.0),
    "multiplicative": (lambda t, h: 0.4 * h, lambda t, h: 0.4),
    "of the state": (lambda t, h: 0.4 * torch.sin(h) + 0.1 * t, lambda t, h: 0.4 * torch.cos(h)),
}


@pytest.mark.parametrize("kind", DIFFUSIONS)
@pytest.mark.parametrize(
    ("name", "method"), [("euler-maruyama", "euler"), ("milstein", "milstein"), ("stochastic-heun", "heun")]
)
def test_torchsde_with_the_same_increments(name, method, kind):
    drift, h = setup()
    h.requires_grad_()
    g, slope = DIFFUSIONS[kind]
    system = System(drift, lambda t, y, _: g(t, y), lambda t, y, _: slope(t, y))
    noise = torch.randn(STEPS, 3, 4, generator=torch.Generator().manual_seed(2), dtype=f64)
    out = integrate(integrator_named(name), system, h, Grid(steps=STEPS), given(noise))
    equation = Equation(drift, g, integrator_named(name).calculus)
    motion = Motion(noise * math.sqrt(1 / STEPS), 1 / STEPS)
    ends = torch.tensor([0.0, 1.0], dtype=f64)
    theirs = torchsde.sdeint(equation, h, ends, bm=motion, method=method, dt=1 / STEPS)[-1]
    assert next(motion.steps) == STEPS
    torch.testing.assert_close(out, theirs, rtol=1e-9, atol=1e-9)
    for ours, other in zip(gradients(out, drift, h), gradients(theirs, drift, h), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-8, atol=1e-8)


def test_a_block_is_the_equation_that_it_says():
    drift, h = setup()
    noise = torch.randn(STEPS, 3, 4, generator=torch.Generator().manual_seed(2), dtype=f64)
    block = SDEBlock(drift, Grid(steps=STEPS), integrator_named("euler-maruyama"), Additive(sigma=0.4))
    motion = Motion(noise * math.sqrt(1 / STEPS), 1 / STEPS)
    equation = Equation(drift, DIFFUSIONS["additive"][0], "ito")
    ends = torch.tensor([0.0, 1.0], dtype=f64)
    theirs = torchsde.sdeint(equation, h, ends, bm=motion, method="euler", dt=1 / STEPS)[-1]
    torch.testing.assert_close(block(h, noise), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(4, 5, 5), (6,)])
def test_opacus_hooks_see_every_record_s_gradient(shape):
    opacus = pytest.importorskip("opacus", reason="Opacus is an optional extra")
    torch.manual_seed(0)
    drift = ConvDrift(shape[0]) if len(shape) == 3 else DenseDrift(shape[0], 5)
    block = SDEBlock(drift, Grid(steps=3), integrator_named("euler-maruyama"), Additive(sigma=0.4)).to(f64)
    h, noise = torch.randn(4, *shape, dtype=f64), torch.randn(3, 4, *shape, dtype=f64)
    alone = []
    for row in range(4):
        block.zero_grad()
        block(h[row : row + 1], noise[:, row : row + 1]).square().sum().backward()
        alone.append([p.grad.clone() for p in block.parameters()])
    block.zero_grad()
    wrapped = opacus.GradSampleModule(block, loss_reduction="sum")
    wrapped(h, noise).square().sum().backward()
    for found, expected in zip((p.grad_sample for p in wrapped.parameters()), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-8, atol=1e-9)
