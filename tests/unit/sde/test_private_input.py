import copy
import math
import pkgutil
from importlib import import_module
from unittest import mock

import pytest
import torch
from torch import nn

import sfumato.sde
from sfumato.accounting.local import Path, input_guarantee
from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.noise.seeded import SeededNoise
from sfumato.sde import private_input
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.diffusions.base import DiffusionField
from sfumato.sde.diffusions.choice import diffusions
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.choice import integrators
from sfumato.sde.integrators.euler_maruyama import EulerMaruyama
from sfumato.sde.private_input import PrivateInputBlock
from sfumato.sde.streams import random_layers, set_noise
from sfumato.training.draws import Draws

GRID = Grid(horizon=1.0, steps=10)


def block(*layers, shape=(4,), sigma=2.0, **more):
    given = {"radius": 1.0, "lipschitz": 1.0} | more
    layers = layers or (nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
    return PrivateInputBlock(layers, GRID, Additive(sigma=sigma), shape=shape, **given)


def test_the_guarantee_is_the_discrete_bound_at_what_is_enforced():
    found = block(lipschitz=3.0).guarantee(1e-5, queries=2)
    bare = input_guarantee(1e-5, 1.0, Path(2.0, 0.1, (1.3,) * 10), queries=2, linear=False, audit_only=False)
    assert bare.epsilon <= found.epsilon == pytest.approx(bare.epsilon, rel=1e-4)
    assert (found.delta, found.queries, found.radius, found.linear) == (1e-5, 2, 1.0, False)
    assert not found.audit_only


def test_it_does_not_depend_on_how_large_the_weights_are():
    one = block()
    before = one.guarantee(1e-5, queries=1)
    for parameter in one.parameters():
        nn.init.normal_(parameter, std=100.0)
    assert one.guarantee(1e-5, queries=1) == before


def test_decay_makes_steps_contract():
    found = block(decay=3.0).guarantee(1e-5, queries=1)
    assert max(found.path.factors) == pytest.approx(0.8, rel=1e-4)
    assert found.epsilon < block().guarantee(1e-5, queries=1).epsilon


@pytest.mark.parametrize("slope", [-1.0, 0.0, 1.0])
def test_linear_drift_counts_as_what_its_weights_are(slope):
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.copy_(slope * torch.eye(4))
    found = block(layer).guarantee(1e-5, queries=1)
    assert found.linear
    assert max(found.path.factors) == pytest.approx(1 + slope / 10, rel=1e-4)
    assert found.path.factors[0] >= 1 + slope / 10 * (1 + 2e-5 * (slope < 0))


def test_two_linear_layers_are_linear_and_an_activation_is_not():
    assert block(nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 4)).guarantee(1e-5, queries=1).linear
    assert not block(nn.Linear(4, 4), nn.Tanh()).guarantee(1e-5, queries=1).linear


def test_without_noise_it_takes_eulers_steps_from_the_clipped_state():
    torch.manual_seed(0)
    one = block(nn.Linear(4, 4), nn.Tanh(), lipschitz=100.0, decay=0.5).double()
    set_noise(one, None, "off")
    h = 3 * torch.randn(5, 4, dtype=torch.float64)
    expected = h / torch.linalg.vector_norm(h, dim=1, keepdim=True).clamp_min(1.0)
    for _ in range(10):
        expected = expected + 0.1 * (torch.tanh(one.layers[0](expected)) - 0.5 * expected)
    assert torch.allclose(one(h), expected, atol=1e-5)


def test_far_inputs_and_inputs_that_are_not_finite_stay_within_the_radius():
    one = block(nn.Linear(4, 4))
    nn.init.zeros_(one.layers[0].weight)
    nn.init.zeros_(one.layers[0].bias)
    set_noise(one, None, "off")
    h = torch.tensor([[1e30, 0, 0, 0], [float("nan"), 0, 0, 0], [float("inf"), 1, 1, 1], [0.1, 0, 0, 0]])
    assert torch.linalg.vector_norm(one(h), dim=1).tolist() == pytest.approx([1, 0, 0, 0.1], rel=1e-5)


def test_the_noise_is_of_the_operating_system_and_fresh_each_time():
    made = []

    class Noted(private_input.SystemNoise):
        def __init__(self):
            made.append(self)
            super().__init__()

    one, h = block(), torch.zeros(200, 4)
    with mock.patch.object(private_input, "SystemNoise", Noted):
        torch.manual_seed(0)
        first = one(h).detach()
        torch.manual_seed(0)
        second = one(h).detach()
    assert len(made) == 2
    assert not torch.equal(first, second)
    assert float(first.std()) == pytest.approx(float(second.std()), rel=0.2)
    assert float((first[0] - first[1]).abs().sum()) > 0


def test_it_can_be_copied_because_it_holds_no_key():
    torch.manual_seed(0)
    one = block()
    other = copy.deepcopy(one)
    one(torch.zeros(1, 4))
    assert other.guarantee(1e-5, queries=1) == one.guarantee(1e-5, queries=1)


def test_noise_from_streams_is_repeatable_and_for_audits_only():
    one, h = block(), torch.randn(6, 4)
    set_noise(one, Draws((3,), ("test",)))
    first = one(h)
    assert one.guarantee(1e-5, queries=1).audit_only
    set_noise(one, Draws((3,), ("test",)))
    assert torch.equal(first, one(h))
    set_noise(one, None)
    assert not one.guarantee(1e-5, queries=1).audit_only


@pytest.mark.parametrize("noise", ["off", "common"])
def test_there_is_no_guarantee_while_noise_is_off_or_shared(noise):
    one = block()
    set_noise(one, None, noise)
    with pytest.raises(NotPrivateError, match=noise):
        one.guarantee(1e-5, queries=1)


def test_shared_noise_is_one_row_for_all():
    one = block(nn.Linear(4, 4))
    set_noise(one, None, "common")
    out = one(torch.zeros(3, 4))
    assert torch.equal(out[0], out[1])


def test_attacks_know_that_it_answers_at_random():
    one = block().eval()
    assert random_layers(nn.Sequential(nn.Linear(4, 4), one)) == [one]
    assert not torch.equal(one(torch.zeros(1, 4)), one(torch.zeros(1, 4)))


def test_gradients_pass_through_it():
    one, h = block(), torch.randn(2, 4, requires_grad=True)
    one(torch.cat([h, torch.zeros(1, 4)])).sum().backward()
    assert torch.isfinite(h.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in one.parameters())


def test_convolutions_work_and_shapes_are_checked():
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1)]
    one = block(*layers, shape=(2, 5, 5))
    assert one(torch.randn(3, 2, 5, 5)).shape == (3, 2, 5, 5)
    with pytest.raises(UsageError, match=r"\(2, 5, 5\), got \(2, 6, 5\)"):
        one(torch.randn(3, 2, 6, 5))
    with pytest.raises(UsageError, match="keep states"):
        block(nn.Linear(4, 1))(torch.randn(3, 4))


class Scaled(Additive):
    """Looks additive."""


@pytest.mark.parametrize("name", sorted(set(diffusions()) - {"additive"}))
def test_other_diffusions_are_refused_by_name(name):
    with pytest.raises(NotPrivateError, match=f"additive noise, got '{name}'"):
        PrivateInputBlock([nn.Linear(4, 4)], GRID, diffusions()[name](sigma=1.0), radius=1.0, lipschitz=1.0, shape=(4,))


def test_so_are_subclasses_and_no_noise_at_all():
    with pytest.raises(NotPrivateError, match="additive noise"):
        PrivateInputBlock([nn.Linear(4, 4)], GRID, Scaled(sigma=1.0), radius=1.0, lipschitz=1.0, shape=(4,))
    with pytest.raises(NotPrivateError, match="sigma 0"):
        block(sigma=0.0)


@pytest.mark.parametrize("name", sorted(set(integrators()) - {"euler-maruyama"}))
def test_other_integrators_are_refused_by_name(name):
    with pytest.raises(NotPrivateError, match=f"Euler-Maruyama on a fixed grid, got '{name}'"):
        block(integrator=integrators()[name]())
    assert block(integrator=EulerMaruyama()).guarantee(1e-5, queries=1)


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.BatchNorm1d(4)], ids=str)
def test_normalisation_is_refused_at_construction_and_when_it_is_put_in_later(layer):
    with pytest.raises(NotPrivateError, match=type(layer).__name__):
        block(nn.Linear(4, 4), layer)
    one = block(nn.Linear(4, 4), nn.ReLU())
    one.layers[1] = layer
    with pytest.raises(NotPrivateError, match=type(layer).__name__):
        one.guarantee(1e-5, queries=1)
    with pytest.raises(NotPrivateError, match=type(layer).__name__):
        one(torch.zeros(2, 4))


@pytest.mark.parametrize("change", [{"radius": 0.0}, {"lipschitz": 0.0}, {"lipschitz": -1.0}, {"decay": -0.1}])
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(UsageError, match=next(iter(change))):
        block(**change)


def test_nothing_else_in_the_room_has_an_epsilon():
    """The diffusion coefficient buys no guarantee, and there is no door to one."""
    words, doors = ("epsilon", "delta", "guarantee", "accountant"), set()
    for found in pkgutil.walk_packages(sfumato.sde.__path__, "sfumato.sde."):
        module = import_module(found.name)
        for kind in (value for value in vars(module).values() if isinstance(value, type)):
            if not kind.__module__.startswith("sfumato.sde"):
                continue
            if any(
                word in name.lower() for name in (*vars(kind), *getattr(kind, "__annotations__", {})) for word in words
            ):
                doors.add(kind.__name__)
    assert doors == {"PrivateInputBlock"}
    assert issubclass(Additive, DiffusionField)


def test_a_seeded_source_in_place_of_the_systems_gives_the_same_law():
    one = block(nn.Linear(4, 4), sigma=1.0)
    nn.init.zeros_(one.layers[0].weight)
    nn.init.zeros_(one.layers[0].bias)
    with mock.patch.object(private_input, "SystemNoise", return_value=SeededNoise(1, "test")):
        out = one(torch.zeros(20_000, 4))
    assert float(out.detach().var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 80_000))
