"""Integrators against formulas: moments of linear equations on the grid itself, and orders of convergence.

Where many paths are drawn, the seed is fixed and the margin is that of the statistic named beside it.
"""

import math

import pytest
import torch

from sfumato.sde import Grid, System, integrate
from sfumato.sde.integrate import given
from sfumato.sde.integrators.choice import integrator_named, integrators

f64 = torch.float64
PATHS = 20_000
STOCHASTIC = [name for name, kind in integrators().items() if kind.stochastic]
ITO = [name for name in STOCHASTIC if integrators()[name].calculus == "ito"]


def normals(steps, paths, seed=0):
    return torch.randn(steps, paths, generator=torch.Generator().manual_seed(seed), dtype=f64)


def linear(rate, sigma):
    return System(lambda _, h: rate * h, lambda *_: sigma, lambda *_: 0.0)


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize(("rate", "steps", "horizon"), [(-1.0, 10, 1.0), (0.5, 4, 2.0), (0.0, 7, 1.0)])
def test_linear_drift_with_additive_noise_is_linear_in_the_noise(name, rate, steps, horizon):
    """h_N = c^N h_0 + sigma sqrt(dt) sum_k c^(N-1-k) a xi_k, exactly, so mean and variance follow."""
    dt, sigma, h0 = horizon / steps, 0.3, 1.7
    heun = name == "stochastic-heun"
    c = 1 + rate * dt + (rate * dt) ** 2 / 2 if heun else 1 + rate * dt
    a = 1 + rate * dt / 2 if heun else 1.0  # what the corrector makes of a step's own noise
    unit = torch.cat(
        [torch.zeros(steps, 1, dtype=f64), torch.eye(steps, dtype=f64)], dim=1
    )  # no noise, then one step's
    found = integrate(
        integrator_named(name),
        linear(rate, sigma),
        torch.full((steps + 1,), h0, dtype=f64),
        Grid(horizon=horizon, steps=steps),
        given(unit),
    )
    mean, responses = found[0], found[1:] - found[0]
    torch.testing.assert_close(mean, torch.tensor(c**steps * h0, dtype=f64))
    expected = [sigma * math.sqrt(dt) * a * c ** (steps - 1 - k) for k in range(steps)]
    torch.testing.assert_close(responses, torch.tensor(expected, dtype=f64), rtol=1e-10, atol=1e-12)
    variance = sigma**2 * dt * a**2 * sum(c ** (2 * j) for j in range(steps))
    assert float(responses.square().sum()) == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize("name", ITO)
def test_moments_of_paths_that_are_drawn(name):
    """Mean within 5 standard errors, variance within 5 standard errors of a variance (sqrt(2 / n))."""
    rate, sigma, steps = -1.0, 0.5, 8
    c, dt = 1 + rate / steps, 1 / steps
    out = integrate(
        integrator_named(name),
        linear(rate, sigma),
        torch.ones(PATHS, dtype=f64),
        Grid(steps=steps),
        given(normals(steps, PATHS)),
    )
    variance = sigma**2 * dt * sum(c ** (2 * j) for j in range(steps))
    assert float(out.mean()) == pytest.approx(c**steps, abs=5 * math.sqrt(variance / PATHS))
    assert float(out.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / PATHS))


def test_euler_maruyama_s_moments_of_multiplicative_noise():
    """E h_N = (1 + a dt)^N and E h_N^2 = ((1 + a dt)^2 + b^2 dt)^N, through all outcomes of two-point noise."""
    a, b, steps = 0.3, 0.4, 8
    dt = 1 / steps
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=f64)] * steps).T  # the first two moments of a normal
    system = System(lambda _, h: a * h, lambda _, h, __: b * h)
    ones = torch.ones(2**steps, dtype=f64)
    out = integrate(integrator_named("euler-maruyama"), system, ones, Grid(steps=steps), given(signs))
    assert float(out.mean()) == pytest.approx((1 + a * dt) ** steps)
    assert float(out.square().mean()) == pytest.approx(((1 + a * dt) ** 2 + b**2 * dt) ** steps)


def test_weak_error_of_the_ornstein_uhlenbeck_process_is_of_first_order():
    """From the exact linear response: mean exp(-1), variance sigma^2 (1 - exp(-2)) / 2 at time 1."""
    sigma, errors = 0.8, []
    for steps in (16, 32):
        unit = torch.cat([torch.zeros(steps, 1, dtype=f64), torch.eye(steps, dtype=f64)], dim=1)
        start = torch.ones(steps + 1, dtype=f64)
        out = integrate(integrator_named("euler-maruyama"), linear(-1.0, sigma), start, Grid(steps=steps), given(unit))
        variance = float((out[1:] - out[0]).square().sum())
        errors.append((float(out[0]) - math.exp(-1), variance - sigma**2 * (1 - math.exp(-2)) / 2))
    for coarse, fine in zip(*errors, strict=True):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.1)


def strong_errors(name, rate, sigma, *, additive, grids=(16, 64), paths=2000):
    """Root mean square distance from the exact path at time 1, driven by one Brownian motion, on each grid."""
    method, fine = integrator_named(name), 512
    motion = normals(fine, paths, seed=5)
    total = motion.sum(0) / math.sqrt(fine)
    errors = []
    for steps in grids:
        coarse = motion.reshape(steps, fine // steps, paths).sum(1) * math.sqrt(steps / fine)
        if additive:  # dh = rate sin(t) dt + sigma (1 + t) dW: only the integral over (1 + t) dW is approximated
            system = System(
                lambda t, h: torch.full_like(h, rate * math.sin(t)), lambda t, *_: sigma * (1 + t), lambda *_: 0.0
            )
            times = (torch.arange(fine, dtype=f64)[:, None] + 0.5) / fine
            exact = rate * (1 - math.cos(1)) + sigma * ((1 + times) * motion).sum(0) / math.sqrt(fine)
            start = torch.zeros(paths, dtype=f64)
        else:
            system = System(lambda _, h: rate * h, lambda _, h, __: sigma * h, lambda *_: sigma)
            drift = rate - sigma**2 / 2 if method.calculus == "ito" else rate
            exact, start = torch.exp(drift + sigma * total), torch.ones(paths, dtype=f64)
        out = integrate(method, system, start, Grid(steps=steps), given(coarse))
        errors.append(float((out - exact).square().mean().sqrt()))
    return errors


@pytest.mark.parametrize("name", STOCHASTIC)
def test_strong_order_with_multiplicative_noise(name):
    """Geometric Brownian motion; to the Ito or the Stratonovich solution, each as the method says."""
    coarse, fine = strong_errors(name, 0.5, 0.8, additive=False)
    assert math.log(coarse / fine, 4) == pytest.approx(integrators()[name].strong_order, abs=0.12)


def test_each_calculus_has_its_own_solution():
    """Milstein's paths stay away from the Stratonovich solution, and Heun's from Ito's."""
    for name, other in (("milstein", "stochastic-heun"), ("stochastic-heun", "milstein")):
        own = strong_errors(name, 0.5, 0.8, additive=False, grids=(128,))[0]
        system = System(lambda _, h: 0.5 * h, lambda _, h, __: 0.8 * h, lambda *_: 0.8)
        motion = normals(512, 2000, seed=5).reshape(128, 4, 2000).sum(1) / 2
        ends = [
            integrate(integrator_named(n), system, torch.ones(2000, dtype=f64), Grid(steps=128), given(motion))
            for n in (name, other)
        ]
        assert float((ends[0] - ends[1]).square().mean().sqrt()) > 10 * own


def test_euler_maruyama_has_strong_order_one_with_additive_noise():
    coarse, fine = strong_errors("euler-maruyama", 1.0, 0.8, additive=True)
    assert math.log(coarse / fine, 4) == pytest.approx(1, abs=0.12)


@pytest.mark.statistical
def test_weak_order_of_euler_maruyama_from_drawn_paths():
    """Mean of h(1) of geometric Brownian motion, 2 million antithetic paths; each error known to 4% (5 deviations)."""
    errors = []
    for steps in (2, 4):
        draws = normals(steps, 1_000_000, seed=9)
        system = System(lambda _, h: h, lambda _, h, __: 0.3 * h)
        start = torch.ones(2_000_000, dtype=f64)
        noise = given(torch.cat([draws, -draws], dim=1))
        errors.append(
            math.e
            - float(integrate(integrator_named("euler-maruyama"), system, start, Grid(steps=steps), noise).mean())
        )
    expected = [math.e - (1 + 1 / steps) ** steps for steps in (2, 4)]
    for found, value in zip(errors, expected, strict=True):
        assert found == pytest.approx(value, rel=0.04)
