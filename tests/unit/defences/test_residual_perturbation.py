from dataclasses import replace

import pytest
import torch

from sfumato.defences.residual_perturbation import STRATEGIES, ResidualPerturbation
from sfumato.errors import UsageError
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8
from sfumato.sde.block import SDEBlock
from sfumato.sde.streams import random_layers, set_noise, set_progress
from sfumato.training.draws import Draws


def network(defence):
    torch.manual_seed(0)
    return defence.prepare(ResidualNet(width=4, blocks=3).build((6,), 2))


def test_every_residual_mapping_takes_one_step_with_noise():
    found = [part for part in network(ResidualPerturbation()).modules() if isinstance(part, SDEBlock)]
    assert [(block.grid.steps, block.grid.horizon) for block in found] == [(1, 1.0)] * 3
    assert len(random_layers(network(ResidualPerturbation()))) == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_added_has_the_strength_that_was_asked_for(strategy):
    """sigma xi, or sigma h xi, on top of h + F(h)."""
    block = network(ResidualPerturbation(strategy=strategy, sigma=0.3))[2].eval()
    h = torch.tensor([[-2.0, 0.5, 1.0, 4.0]]).repeat(40_000, 1)
    block.draws = Draws((1,))
    with torch.no_grad():
        noise = block(h) - (h + block.drift(0.0, h))
    scale = torch.ones(4) if strategy == "additive" else h[0].abs()
    assert torch.allclose(noise.std(0), 0.3 * scale, rtol=0.03)
    assert torch.allclose(noise.mean(0) / scale, torch.zeros(4), atol=0.01)


def test_without_noise_it_is_the_old_network():
    x = torch.randn(5, 6)
    torch.manual_seed(0)
    before = ResidualNet(width=4, blocks=3).build((6,), 2)(x)
    model = network(ResidualPerturbation(start=0.5, ramp=0.5))
    set_progress(model, 0.4)
    assert torch.equal(model(x), before)
    set_progress(model, 1.0)
    assert not torch.equal(model(x), before)
    set_noise(model, Draws((1,)), "off")
    assert torch.equal(model(x), before)


def test_the_activation_of_a_resnet_comes_after_the_noise():
    torch.manual_seed(0)
    model = ResidualPerturbation(sigma=50.0).prepare(ResNet8(width=4, norm="group").build((1, 8, 8), 2)).eval()
    model[3].draws = Draws((1,))
    with torch.no_grad():
        assert float(model[3](torch.zeros(2, 4, 8, 8)).min()) == 0.0


def test_what_cannot_be_is_refused_at_construction():
    for bad in ({"strategy": "dropout"}, {"sigma": -0.1}, {"ramp": 2.0}):
        with pytest.raises(UsageError):
            ResidualPerturbation(**bad)


def test_it_says_that_it_is_a_reconstruction():
    assert "reconstruction" in ResidualPerturbation.summary
    assert replace(ResidualPerturbation(), sigma=1.0).family == "empirical"
