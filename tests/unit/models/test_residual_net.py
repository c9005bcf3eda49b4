import pytest
import torch

from sfumato.errors import UsageError
from sfumato.models.continuous import parameter_count
from sfumato.models.ode_net import ODENet
from sfumato.models.residual_net import ResidualNet, SteadyBlock, matched

IMAGE = (1, 28, 28)


def blocks_of(network: torch.nn.Module) -> list[SteadyBlock]:
    return [layer for layer in network.modules() if isinstance(layer, SteadyBlock)]


def test_stem_and_head_are_those_of_the_ode_network() -> None:
    for shape in (IMAGE, (1, 8, 8), (30,)):
        residual = ResidualNet(channels=8, width=8, blocks=1).build(shape, 3)
        ordinary = ODENet(channels=8, width=8).build(shape, 3)
        assert len(residual) == len(ordinary)
        for one, other in zip(residual, ordinary, strict=True):
            assert isinstance(one, SteadyBlock) or repr(one) == repr(other)


def test_blocks_have_weights_of_their_own() -> None:
    network = ResidualNet(width=4, blocks=3).build((5,), 2)
    blocks = blocks_of(network)
    assert len(blocks) == 3
    first, second, _ = (block.branch[1].weight for block in blocks)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("state", [(4,), (4, 3, 3)])
def test_a_block_is_the_sum_and_nothing_behind_it(state: tuple) -> None:
    (block,) = ResidualNet(blocks=1).body(state)
    x = torch.randn(2, *state)
    torch.testing.assert_close(block(x), x + block.branch(x))


def test_a_branch_is_the_drift_without_its_time_input() -> None:
    branch = sum(p.numel() for p in ResidualNet().body((64, 7, 7))[0].parameters())
    drift = sum(p.numel() for p in ODENet().body((64, 7, 7))[0].parameters())
    assert drift - branch == 2 * 64 * 9  # one more input plane in each of two convolutions


@pytest.mark.parametrize(
    ("shape", "ordinary"),
    [(IMAGE, ODENet()), (IMAGE, ODENet(channels=32)), ((1, 8, 8), ODENet(channels=16)), ((30,), ODENet(width=40))],
)
@pytest.mark.parametrize("blocks", [1, 6])
def test_no_other_width_is_nearer_in_parameters(shape: tuple, ordinary: ODENet, blocks: int) -> None:
    wanted = parameter_count(ordinary, shape, 10)
    found = matched(wanted, shape, 10, blocks)
    side = "channels" if len(shape) == 3 else "width"
    off = abs(parameter_count(found, shape, 10) - wanted)
    for size in (getattr(found, side) - 1, getattr(found, side) + 1):
        other = ResidualNet(**{side: size, "blocks": blocks})
        assert abs(parameter_count(other, shape, 10) - wanted) >= off
    assert found.blocks == blocks
    assert off <= 0.12 * wanted  # one channel more or less is much for a narrow network


def test_counting_draws_no_random_number_and_counts_right() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    counted = parameter_count(ResidualNet(channels=8), (1, 8, 8), 3)
    assert torch.equal(before, torch.get_rng_state())
    assert counted == sum(p.numel() for p in ResidualNet(channels=8).build((1, 8, 8), 3).parameters())


def test_too_many_parameters_to_match_are_refused() -> None:
    with pytest.raises(UsageError, match="more `blocks`"):
        matched(10**12, (5,), 2, 1)


def test_no_block_is_refused() -> None:
    with pytest.raises(UsageError, match="blocks"):
        ResidualNet(blocks=0)
