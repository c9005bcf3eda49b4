"""What every integrator and every diffusion promises, found by discovery."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from sfumato.errors import NotPrivateError, UnsupportedModel, UsageError
from sfumato.private.refusals import refuse_unsupported
from sfumato.sde import Grid, SDEBlock, System, integrate, set_noise
from sfumato.sde.diffusions.choice import diffusion_named, diffusions
from sfumato.sde.drifts.convolutional import ConvDrift
from sfumato.sde.drifts.dense import DenseDrift
from sfumato.sde.integrate import given
from sfumato.sde.integrators.choice import integrator_named, integrators
from sfumato.training.draws import Draws
from sfumato.training.stacking import build_stack

f64 = torch.float64
INTEGRATORS, DIFFUSIONS = integrators(), diffusions()
FIXED = [name for name, kind in INTEGRATORS.items() if not kind.couples]
STOCHASTIC = [name for name, kind in INTEGRATORS.items() if kind.stochastic]
STATES = {"table": (6,), "image": (4, 5, 5)}
every_integrator = pytest.mark.parametrize("name", INTEGRATORS)
every_fixed = pytest.mark.parametrize("name", FIXED)
every_stochastic = pytest.mark.parametrize("name", STOCHASTIC)
every_diffusion = pytest.mark.parametrize("field", DIFFUSIONS)
every_state = pytest.mark.parametrize("state", STATES)
pairs = pytest.mark.parametrize(
    ("name", "field"), [(n, f) for n in STOCHASTIC for f in DIFFUSIONS if (n, f) != ("milstein", "dropout-type")]
)


def drift(t, h):
    return torch.sin(h) + t


def block(name, field=None, state="table", *, sigma=0.3, steps=3, dtype=f64, **more):
    torch.manual_seed(0)
    shape = STATES[state]
    net = ConvDrift(shape[0]) if len(shape) == 3 else DenseDrift(shape[0], 5)
    diffusion = None if field is None else diffusion_named(field, sigma)
    return SDEBlock(net, Grid(steps=steps), integrator_named(name), diffusion, shape=shape, **more).to(dtype)


def states(state="table", rows=4, dtype=f64):
    return torch.randn(rows, *STATES[state], generator=torch.Generator().manual_seed(3), dtype=dtype)


def path(like, steps=3):
    return torch.randn(steps, *like.shape, generator=torch.Generator().manual_seed(4), dtype=like.dtype)


def test_the_promised_ones_are_found():
    assert set(INTEGRATORS) >= {
        "euler", "midpoint", "rk4", "euler-maruyama", "milstein", "stochastic-heun", "adaptive",
    }  # fmt: skip
    assert set(DIFFUSIONS) >= {"additive", "multiplicative", "dropout-type", "learned-scalar"}


@every_integrator
def test_an_integrator_is_a_frozen_value_with_a_citation(name):
    method = integrator_named(name)
    assert method == type(method)()
    assert method.bibtex.startswith("@")
    assert method.reference in method.bibtex
    assert method.summary
    assert bool(method.strong_order) == method.stochastic == bool(method.calculus)
    for field in dataclasses.fields(method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field.name, 1)


@every_diffusion
def test_a_diffusion_is_a_frozen_value_with_a_citation(field):
    made = diffusion_named(field, 0.5)
    assert made == diffusion_named(field, 0.5) != diffusion_named(field, 0.6)
    assert made.bibtex.startswith("@")
    assert made.reference in made.bibtex
    for bad in (-0.1, math.nan):
        with pytest.raises(UsageError, match="sigma"):
            diffusion_named(field, bad)


@every_integrator
@pytest.mark.parametrize("dtype", [torch.float32, f64])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 5), (1, 7), (0, 4)])
def test_any_shape_and_type_is_kept_and_nothing_is_written_to(name, dtype, shape):
    if name == "adaptive":
        shape = (max(1, shape[0]), *shape[1:])  # an empty batch has no error norm
    h = torch.linspace(-1, 1, math.prod(shape), dtype=dtype).reshape(shape)
    before, method = h.clone(), integrator_named(name)
    out = integrate(method, System(drift), h, Grid(steps=2))
    assert (out.shape, out.dtype) == (h.shape, dtype)
    assert torch.equal(h, before)
    if method.stochastic:
        noise = path(h, 2)
        kept = noise.clone()
        noisy = integrate(method, System(drift, lambda *_: 0.5, lambda *_: 0.0), h, Grid(steps=2), given(noise))
        assert (noisy.shape, noisy.dtype) == (h.shape, dtype)
        assert torch.equal(noise, kept)
        assert h.numel() == 0 or not torch.equal(noisy, out)


@every_fixed
def test_the_error_without_noise_falls_with_the_stated_order(name):
    """h' = h sin t from 1 has h(1) = exp(1 - cos 1)."""
    method = integrator_named(name)
    h, exact = torch.ones(1, dtype=f64), math.exp(1 - math.cos(1))
    system = System(lambda t, h: h * math.sin(t))
    errors = [abs(float(integrate(method, system, h, Grid(steps=n))) - exact) for n in (16, 32)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(method.order, abs=0.15)


@every_fixed
def test_the_stated_number_of_drift_evaluations_is_made(name):
    method, calls = integrator_named(name), []
    integrate(method, System(lambda t, h: calls.append(t) or h), torch.ones(1), Grid(horizon=2.0, steps=4))
    assert len(calls) == 4 * method.evaluations
    assert min(calls) == 0
    assert max(calls) <= 2.0


@pairs
@pytest.mark.parametrize("state", STATES)
def test_the_same_noise_gives_the_same_answer_and_no_noise_the_equation_without(name, field, state):
    net, h = block(name, field, state), states(state)
    noise = path(h)
    assert torch.equal(net(h, noise), net(h, noise))
    assert not torch.equal(net(h, noise), net(h, noise.flip(0)))
    without = integrate(net.integrator, System(net.drift), h, net.grid)
    set_noise(net, Draws((1,), ("t",)), noise="off")
    assert torch.equal(net(h), without)
    set_noise(net, Draws((1,), ("t",)))
    assert not torch.equal(net(h), without)
    assert torch.equal(block(name, field, state, sigma=0.0)(h), without)


@pairs
def test_gradients_reach_every_parameter(name, field):
    net = block(name, field, "image")
    set_noise(net, Draws((1,), ("t",)))
    net(states("image")).square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pairs
@every_state
def test_checkpointed_steps_give_the_same_gradients(name, field, state):
    h, found = states(state), []
    for checkpointed in (False, True):
        net = block(name, field, state, checkpointed=checkpointed)
        set_noise(net, Draws((1,), ("t",)))
        net(h).square().sum().backward()
        found.append([p.grad for p in net.parameters()])
    for once, again in zip(*found, strict=True):
        torch.testing.assert_close(once, again, rtol=1e-12, atol=1e-12)


@pairs
@every_state
def test_a_stack_of_models_gives_each_what_it_gives_alone(name, field, state):
    draws, alone = Draws((5, 6, 7), ("training", 0)), []
    for seed in draws.seeds:
        net = block(name, field, state)
        torch.manual_seed(seed)
        for p in net.parameters():
            nn.init.normal_(p, std=0.3)
        alone.append(net)
    stack = build_stack(alone, states(state), draws)
    batches = [states(state, 4) * (m + 1) for m in range(3)]
    set_noise(stack.module, draws)
    out = stack.module(torch.cat(batches))
    out.square().sum().backward()
    for m, (net, batch) in enumerate(zip(alone, batches, strict=True)):
        set_noise(net, Draws((draws.seeds[m],), draws.path))
        expected = net(batch)
        expected.square().sum().backward()
        torch.testing.assert_close(out.chunk(3)[m], expected, rtol=1e-10, atol=1e-10)
        for key, p in net.named_parameters():
            found = stack.module.get_parameter(key).grad[m]
            torch.testing.assert_close(found, p.grad, rtol=1e-8, atol=1e-9, msg=lambda text, k=key: k + text)


@pairs
@every_state
@pytest.mark.parametrize("checkpointed", [False, True])
def test_private_training_sees_every_record_s_gradient(name, field, state, checkpointed, private_comparison):
    """The engine's clipped sums against a loop over single records, the noise of each record given with it."""
    inner = block(name, field, state, checkpointed=checkpointed)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = inner, nn.Linear(math.prod(STATES[state]), 3, dtype=f64)

        def forward(self, both):
            h, noise = both
            return self.head(self.inner(h, noise.movedim(0, 1)).flatten(1))

    h = states(state)
    noise = path(h).movedim(1, 0).contiguous()
    private_comparison.compare(Net(), (h, noise), torch.arange(4) % 3).check(1e-9)


@every_fixed
def test_changing_one_record_leaves_the_gradients_of_others(name):
    assert _moved(name) < 1e-13


def test_an_adaptive_solver_moves_the_gradients_of_others():
    """The test above sees the fault that it is for."""
    assert _moved("adaptive") > 1e-8


def _moved(name):
    """How far the gradient of record 0 moves when the others grow twentyfold, relative to its norm."""
    field = "multiplicative" if INTEGRATORS[name].stochastic else None
    net, h = block(name, field, steps=1 if name == "adaptive" else 3), states()
    grown = torch.cat([h[:1], 20 * h[1:]])
    noise = path(h) if field else None
    found = []
    for batch in (h, grown):
        parts = torch.autograd.grad(net(batch, noise)[0].square().sum(), list(net.parameters()))
        found.append(torch.cat([part.flatten() for part in parts]))
    return float((found[0] - found[1]).norm() / found[0].norm())


@every_integrator
def test_what_takes_no_noise_refuses_it(name):
    method = integrator_named(name)
    noisy = System(drift, lambda *_: 0.1, lambda *_: 0.0)
    h = torch.zeros(2, 3)
    if not method.stochastic:
        with pytest.raises(UsageError, match="for equations with noise"):
            integrate(method, noisy, h, Grid(steps=1), given(torch.zeros(1, 2, 3)))
        with pytest.raises(UsageError, match="for equations with noise"):
            block(name, "additive")
        integrate(method, noisy, h, Grid(steps=1), level=0.0)
        return
    with pytest.raises(UsageError, match="normals"):
        integrate(method, noisy, h, Grid(steps=1))
    for wrong in (torch.zeros(1, 2, 4), torch.zeros(0, 2, 3)):
        with pytest.raises(UsageError, match="a row for step 0"):
            integrate(method, noisy, h, Grid(steps=1), given(wrong))


@every_integrator
def test_what_couples_records_is_refused_in_private_and_in_stacks(name):
    net = block(name)
    if not INTEGRATORS[name].couples:
        refuse_unsupported(net)
        build_stack([net, block(name)], states(), Draws((1, 2)))
        return
    with pytest.raises(NotPrivateError, match="step size"):
        refuse_unsupported(net)
    with pytest.raises(UnsupportedModel, match="step size"):
        build_stack([net, block(name)], states(), Draws((1, 2)))


@every_diffusion
@pytest.mark.parametrize("dtype", [torch.float32, f64])
def test_the_slope_is_the_derivative_of_the_diffusion(field, dtype):
    made, h = diffusion_named(field, 0.7), states(dtype=dtype).requires_grad_()
    module = made.build(STATES["table"])
    learned = None if module is None else module.to(dtype)(h).detach()
    fields = made.along(learned)
    value = fields.diffusion(0.5, h, drift(0.5, h))
    if isinstance(value, torch.Tensor):
        assert value.dtype == dtype
        assert torch.broadcast_shapes(value.shape, h.shape) == h.shape
    if fields.slope is None:
        return
    spread = torch.as_tensor(value, dtype=dtype).expand(h.shape)
    slope = torch.as_tensor(fields.slope(0.5, h, drift(0.5, h)), dtype=dtype).expand(h.shape)
    exact = torch.autograd.grad(spread.sum(), h)[0] if spread.requires_grad else torch.zeros_like(h)
    torch.testing.assert_close(slope, exact)


@every_diffusion
@every_state
def test_the_diffusion_is_in_proportion_to_sigma(field, state):
    values, h = [], states(state)
    for sigma in (0.2, 0.6):
        made = diffusion_named(field, sigma)
        torch.manual_seed(1)
        module = made.build(STATES[state])
        learned = None if module is None else module.to(f64)(h)
        values.append(torch.as_tensor(made.along(learned).diffusion(0.0, h, drift(0.5, h)), dtype=f64))
    torch.testing.assert_close(3 * values[0], values[1])
    assert bool((values[0] != 0).any())


@every_diffusion
@every_state
def test_the_diffusion_of_a_record_depends_on_no_other_record(field, state):
    net, h = block("euler-maruyama", field, state), states(state)
    noise = path(h)
    changed = torch.cat([h[:1], 5 - h[1:]])
    torch.testing.assert_close(net(h, noise)[:1], net(changed, noise)[:1], rtol=1e-12, atol=1e-12)
