import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.continuous import parameter_count
from sfumato.models.ode_net import ODENet
from sfumato.sde.block import SDEBlock


def block_of(network: nn.Module) -> SDEBlock:
    (found,) = [layer for layer in network.modules() if isinstance(layer, SDEBlock)]
    return found


def state_of(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the block receives."""
    seen = []
    block_of(network).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(x)
    return seen[0]


def test_it_has_the_parameters_of_the_torchdiffeq_example() -> None:
    assert parameter_count(ODENet(), (1, 28, 28), 10) == 208_266


@pytest.mark.parametrize(
    ("shape", "state"),
    [
        ((1, 28, 28), (8, 7, 7)),
        ((3, 32, 32), (8, 8, 8)),
        ((1, 16, 20), (8, 4, 5)),
        ((1, 15, 30), (8, 7, 15)),
        ((1, 8, 8), (8, 4, 4)),
        ((1, 29, 29), (8, 7, 7)),
        ((30,), (6,)),
        ((5, 6), (6,)),
    ],
)
def test_the_stem_halves_large_images_twice_and_small_ones_once(shape: tuple, state: tuple) -> None:
    assert state_of(ODENet(channels=8, width=6).build(shape, 3), torch.rand(2, *shape)).shape == (2, *state)


def test_images_below_eight_pixels_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="at least 8"):
        ODENet().build((1, 7, 28), 3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5,)])
def test_augmentation_adds_channels_of_zeros(shape: tuple) -> None:
    network = ODENet(channels=8, width=8, augmented=3).build(shape, 3)
    state = state_of(network, torch.rand(2, *shape))
    assert state.shape[1] == 11
    assert not bool(state[:, 8:].any())
    assert bool(state[:, :8].any())
    assert network(torch.rand(2, *shape)).shape == (2, 3)


def test_fields_reach_the_block() -> None:
    block = block_of(ODENet(steps=4, horizon=2.5, integrator="rk4", checkpointed=True, width=3).build((5,), 2))
    assert (block.grid.steps, block.grid.horizon, block.integrator.name) == (4, 2.5, "rk4")
    assert block.checkpointed
    assert block.diffusion is None


def test_it_is_the_unrolled_recursion() -> None:
    torch.manual_seed(0)
    network = ODENet(width=4, steps=3, horizon=1.5).build((5,), 2).double().eval()
    x = torch.rand(4, 5, dtype=torch.float64)
    h, drift = state_of(network, x), block_of(network).drift
    for step in range(3):
        h = h + 0.5 * drift(0.5 * step, h)
    norm, activation, linear = list(network)[-3:]
    torch.testing.assert_close(network(x), linear(activation(norm(h))))


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        network = ODENet(channels=4, steps=2, checkpointed=checkpointed).build((1, 8, 8), 3)
        network(torch.ones(2, 1, 8, 8)).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(*gradients)


def test_it_answers_the_same_each_time() -> None:
    network = ODENet(width=4).build((5,), 2)
    assert not block_of(network).answers_at_random
    assert torch.equal(network(torch.ones(2, 5)), network(torch.ones(2, 5)))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"steps": 0}, "steps"),
        ({"horizon": 0.0}, "horizon"),
        ({"integrator": "eular"}, "euler"),
        ({"augmented": -1}, "augmented"),
        ({"channels": 0}, "channels"),
        ({"width": 0}, "width"),
    ],
)
def test_impossible_numbers_are_refused(fields: dict, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        ODENet(**fields)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (32, 32), (19, 19), (48, 24), (38, 19)])
def test_norms_have_as_many_groups_as_divide_the_channels(channels: int, groups: int) -> None:
    network = ODENet(channels=channels).build((1, 8, 8), 3)
    assert {layer.num_groups for layer in network.modules() if isinstance(layer, nn.GroupNorm)} == {groups}


def test_no_activation_writes_in_place() -> None:
    assert not any(getattr(layer, "inplace", False) for layer in ODENet().build((1, 28, 28), 10).modules())
