from dataclasses import replace

import pytest
import torch

from sfumato.defences.neural_ode import NeuralODE
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8
from sfumato.sde.block import SDEBlock
from sfumato.sde.streams import random_layers


def network():
    torch.manual_seed(0)
    return ResidualNet(width=8, blocks=3).build((6,), 3)


def solvers(model):
    return [part for part in model.modules() if isinstance(part, SDEBlock)]


def test_every_block_is_solved_without_noise():
    model = NeuralODE(steps=4, horizon=2.0).prepare(network())
    found = solvers(model)
    assert [(block.grid.steps, block.grid.horizon, block.integrator.name) for block in found] == [(4, 2.0, "euler")] * 3
    assert random_layers(model) == []


def test_one_step_is_the_old_network():
    model, x = network(), torch.randn(5, 6)
    before = model(x)
    assert torch.equal(NeuralODE(steps=1).prepare(model)(x), before)


def test_where_and_conversion_reach_the_network():
    model = NeuralODE(where="last-block", convert_norm=False).prepare_for(
        ResNet8(width=4).build((1, 8, 8), 2), (1, 8, 8)
    )
    assert len(solvers(model)) == 1
    assert isinstance(model[1], torch.nn.BatchNorm2d)


def test_a_network_without_blocks_is_refused_with_a_way_out():
    with pytest.raises(UnsupportedModel, match=r"none of its modules adds a branch.*residual-net"):
        NeuralODE().prepare(MLP().build((6,), 3))


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"horizon": 0.0},
        {"integrator": "euller"},
        {"where": " "},
        {"start": 1.0},
        {"finetune": "head"},
    ],
)
def test_what_cannot_be_is_refused_at_construction(bad):
    with pytest.raises(UsageError):
        NeuralODE(**bad)


def test_an_integrator_that_couples_examples_says_so(monkeypatch):
    assert NeuralODE().couples == ""
    monkeypatch.setattr("sfumato.sde.integrators.euler.Euler.couples", "one step size for all")
    assert replace(NeuralODE(), steps=2).couples == "one step size for all"
