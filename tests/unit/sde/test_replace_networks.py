"""The drop-in replacement in sfumato's own residual networks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8, ResNet18
from sfumato.models.wide_resnet import WideResNet
from sfumato.sde.block import Schedule, SDEBlock
from sfumato.sde.replace import FROZEN_NORM, replace
from sfumato.sde.streams import random_layers, set_noise, set_progress
from sfumato.training.draws import Draws

IMAGE, TABLE = (3, 8, 8), (6,)
NETWORKS = {
    "resnet-18": (ResNet18(width=4), IMAGE, 5),
    "resnet-8": (ResNet8(width=4), IMAGE, 1),
    "wide-resnet": (WideResNet(depth=16, width=1, dropout=0.1), IMAGE, 4),
    "resnet-18 of groups": (ResNet18(width=4, norm="group"), IMAGE, 5),
    "residual-net": (ResidualNet(channels=4, blocks=3), IMAGE, 3),
    "residual-net of tables": (ResidualNet(width=8, blocks=2), TABLE, 2),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    family, shape, blocks = NETWORKS[request.param]
    torch.manual_seed(1)
    model = family.build(shape, 3)
    for part in model.modules():  # statistics and scales that hide nothing
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.running_mean)
    return model, torch.randn(4, *shape), blocks


def answers(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(x)


def small(blocks: int = 3) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    return ResidualNet(width=8, blocks=blocks).build(TABLE, 3), torch.randn(4, *TABLE)


def test_one_step_without_noise_is_the_old_network_to_the_last_bit(network):
    model, x, blocks = network
    before, weights = answers(model, x), {id(p) for p in model.parameters()}
    done = replace(model, "all", steps=1, diffusion="additive", sigma=0.0, convert_norm=False)
    assert torch.equal(answers(done.model, x), before)
    assert len(done.swapped) == len(done.blocks()) == blocks
    assert {id(p) for p in done.model.parameters()} == weights


def test_the_same_holds_for_the_gradient(network):
    model, x, _ = network
    found = []
    for net in (model, replace(copy.deepcopy(model), "all", steps=1, convert_norm=False).model):
        net.eval()(x).square().sum().backward()
        found.append(sorted(float(p.grad.double().square().sum()) for p in net.parameters()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_every_block_that_changes_the_shape_is_named_with_the_reason(network):
    model, _, _ = network
    done = replace(model, "all")
    places = {missed.place for missed in done.missed}
    own = [name for name, part in model.named_modules() if type(part).__name__ in ("ResidualBlock", "WideBlock")]
    assert places == set(own)
    assert all("projection" in missed.reason for missed in done.missed)


def test_batch_normalisation_is_converted_with_the_same_scales():
    torch.manual_seed(0)
    model = ResNet18(width=4).build(IMAGE, 3)
    scale = model[4].residual[1].weight
    done = replace(model, "all")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in done.model.modules())
    assert done.model[4].drift.residual[1].weight is scale
    assert len(done.norms) == 20
    assert done.notes == ()


@pytest.mark.parametrize("name", ["resnet-18 of groups", "residual-net", "residual-net of tables"])
def test_group_networks_are_the_old_ones_after_the_conversion_too(name):
    family, shape, _ = NETWORKS[name]
    model, x = family.build(shape, 3), torch.randn(4, *shape)
    before = answers(model, x)
    done = replace(model.train(), "all", steps=1)
    assert done.norms == ()
    assert torch.equal(answers(done.model, x), before)


def test_frozen_batch_normalisation_stays_and_the_report_says_so():
    done = replace(ResNet8(width=4).build(IMAGE, 3).eval(), "all")
    assert any(isinstance(part, nn.BatchNorm2d) for part in done.model.modules())
    assert done.notes == (FROZEN_NORM,)
    assert FROZEN_NORM in str(done)


@pytest.mark.parametrize(
    ("where", "places"), [("last-block", ["10"]), ("last-stage", ["10"]), ("all", ["3", "4", "6", "8", "10"])]
)
def test_where_of_a_resnet(where, places):
    done = replace(ResNet18(width=4).build(IMAGE, 3), where)
    assert [swapped.place for swapped in done.swapped] == places


def test_the_last_stage_is_the_last_run_of_equal_states():
    model = WideResNet(depth=22, width=1).build(IMAGE, 3)
    done = replace(model, "last-stage")
    assert [(s.place, s.shape) for s in done.swapped] == [("8", (64, 8, 8)), ("9", (64, 8, 8))]
    assert {m.place for m in done.missed if m.reason == "not asked for"} == {"1", "2", "3", "5", "6"}


@pytest.mark.parametrize("where", [["2", "4"], "2, 4"])
def test_blocks_by_name(where):
    model, _ = small()
    assert [swapped.place for swapped in replace(model, where).swapped] == ["2", "4"]


def test_an_unknown_name_is_refused_with_the_known_ones():
    model, _ = small()
    with pytest.raises(UsageError, match=r"got 'block9'.*Known names: 2, 3, 4"):
        replace(model, "block9")


def test_a_network_without_residual_blocks_is_refused_by_what_was_looked_at():
    with pytest.raises(UnsupportedModel, match=r"Sequential, Flatten, Linear, ReLU.*residual-net"):
        replace(MLP().build(TABLE, 3), "all")


def euler(block: nn.Module, h: torch.Tensor, steps: int) -> torch.Tensor:
    """Of a resnet block relu(h + F(h)), by hand."""
    for _ in range(steps):
        h = h + block.residual(h) / steps
    return torch.relu(h)


def test_the_activation_comes_after_the_last_step_only():
    torch.manual_seed(2)
    model = ResNet8(width=4, norm="group").build(IMAGE, 3).eval()
    block, x = copy.deepcopy(model[3]), torch.randn(2, 4, 8, 8)
    done = replace(model, "all", steps=3)
    assert isinstance(done.model[3], SDEBlock)
    with torch.no_grad():
        assert torch.allclose(done.model[3](x), euler(block, x, 3), atol=1e-6)
        assert not torch.allclose(done.model[3](x), euler(block, x, 1), atol=1e-3)


def test_the_horizon_cancels_for_one_step_and_scales_the_noise():
    model, x = small()
    before = answers(model, x)
    done = replace(model, "all", steps=1, horizon=4.0, diffusion="additive", sigma=0.5, example=x)
    set_noise(done.model, Draws((1,)), "off")
    assert torch.allclose(answers(done.model, x), before, atol=1e-5)
    block, h = done.blocks()[0].eval(), torch.zeros(20_000, 8)
    block.noise = "fresh"
    block.draws = Draws((1,)).at("layer", 0)
    with torch.no_grad():
        moved = block(h) - (h + 4 * block.drift(0.0, h))
    assert float(moved.std()) == pytest.approx(0.5 * 2.0, rel=0.02)


def test_noise_is_there_at_test_unless_unwanted():
    model, x = small()
    done = replace(copy.deepcopy(model), "all", diffusion="additive")
    assert len(random_layers(done.model)) == 3
    assert not torch.equal(answers(done.model, x), answers(done.model, x))
    silent = replace(model, "all", diffusion="additive", noise_at_test=False).model
    assert random_layers(silent) == []
    assert torch.equal(answers(silent, x), answers(silent, x))


@pytest.mark.parametrize("integrator", ["euler-maruyama", "stochastic-heun"])
def test_until_the_start_it_is_the_old_network_with_any_integrator(integrator):
    model, x = small()
    before = answers(model, x)
    schedule = Schedule(start=0.5, ramp=0.25)
    done = replace(model, "all", diffusion="additive", sigma=0.2, schedule=schedule, integrator=integrator).model
    levels = []
    for progress in (0.0, 0.49, 0.5, 0.625, 0.75, 1.0):
        set_progress(done, progress)
        levels.append(done[2].level)
        assert torch.equal(answers(done, x), before) == (progress < 0.5)
    assert levels == [0, 0, 0, 0.5, 1, 1]


class Reversed(nn.Module):
    """Runs its blocks in another order than they are registered in."""

    def __init__(self):
        super().__init__()
        self.second, self.first = ResidualNet(width=6, blocks=1).body((6,))[0], ResidualNet(width=6).body((6,))[0]

    def forward(self, x):
        return self.second(self.first(x))


def test_the_last_block_is_the_last_one_to_run():
    done = replace(Reversed(), "last-block")
    assert [swapped.place for swapped in done.swapped] == ["second"]
    assert [s.place for s in replace(Reversed(), "all").swapped] == ["first", "second"]


def test_weights_load_again_into_a_network_that_was_assembled_the_same_way():
    first, x = small()
    second = ResidualNet(width=8, blocks=3).build(TABLE, 3)
    settings = {"where": "all", "diffusion": "additive", "steps": 2, "noise_at_test": False}
    one, two = replace(first, **settings).model, replace(second, **settings).model
    assert not torch.equal(answers(one, x), answers(two, x))
    two.load_state_dict(one.state_dict())
    assert torch.equal(answers(one, x), answers(two, x))
    assert "2.drift.branch.1.weight" in one.state_dict()


def test_the_replacement_leaves_modes_and_torchs_draws_alone():
    model, _ = small()
    model.eval()
    model[2].train()
    before = torch.random.get_rng_state()
    done = replace(model, "all", diffusion="additive")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert done.model[2].training
    assert not done.model[3].training


def test_the_table_can_be_read():
    lines = str(replace(ResNet8(width=4).build(IMAGE, 3), "all")).splitlines()
    assert lines[0].split() == ["place", "what", "details"]
    assert lines[1].split()[:2] == ["3", "swapped"]
    assert any("converted" in line and "GroupNorm" in line for line in lines)
    assert any("left" in line and "projection" in line for line in lines)


def test_noise_needs_an_integrator_that_takes_it():
    model, _ = small()
    with pytest.raises(UsageError, match="integrator for equations with noise, got 'euler'"):
        replace(model, "all", diffusion="additive", integrator="euler")


def test_what_a_diffusion_learns_is_of_the_networks_type():
    model, x = small()
    done = replace(model.double(), "all", diffusion="learned-scalar", example=x.double())
    assert {p.dtype for p in done.model.parameters()} == {torch.float64}
    assert answers(done.model, x.double()).dtype == torch.float64
    assert "2.scale.1.weight" in done.model.state_dict()
