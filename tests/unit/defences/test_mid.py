from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.accounting.guarantee import Guarantee
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.lora import LoRA
from sfumato.defences.mid import MID, Bottleneck, divergence, law
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.mlp import MLP
from sfumato.sde.streams import random_layers, set_noise
from sfumato.training.draws import Draws
from sfumato.training.hearing import passed
from sfumato.training.losses import cross_entropy
from sfumato.training.preparation import Assignment, LoopOptions, network_of
from sfumato.training.recipe import Recipe
from sfumato.training.seen import Seen
from sfumato.training.task import Task

TASK = Task(model=MLP(hidden=(6,)), epochs=2, batch_size=8)


def prepared(defence=None):
    return network_of(TASK, defence or MID(), (4,), 3, seed=5).double()


def test_the_last_layer_is_told_half_as_much_as_it_was_or_what_was_asked_for():
    assert prepared()[-1][2].in_features == 3
    assert prepared(MID(width=2))[-1][2].in_features == 2
    assert prepared()[-1][2].out_features == 3


def test_answers_come_from_the_mean_always_the_same():
    model, x = prepared().eval(), torch.randn(5, 4, dtype=torch.float64)
    assert random_layers(model) == []
    set_noise(model, Draws((1,)))
    mean = model[-1][0](model[:-1](x))[:, :3]
    assert torch.equal(model(x), model[-1][2](mean))


def test_with_noise_at_test_answers_are_drawn_and_whoever_has_the_weights_turns_it_off():
    model, quiet, x = prepared(MID(noise_at_test=True)).eval(), prepared().eval(), torch.randn(5, 4).double()
    quiet.load_state_dict(model.state_dict())
    assert len(random_layers(model)) == 1
    set_noise(model, Draws((1,)))
    first = model(x)
    assert not torch.allclose(first, model(x), atol=1e-6)  # the next call
    set_noise(model, Draws((1,)))
    assert torch.equal(first, model(x))
    set_noise(model, Draws((1,)), "off")
    assert torch.equal(model(x), quiet(x))


def test_samples_while_training_have_the_law_that_is_penalised():
    layer = Bottleneck("mid", noise_at_test=False).train()
    statistics = torch.tensor([[2.0, -1.0, 4.0, 6.0]], dtype=torch.float64).expand(20000, 4)
    set_noise(layer, Draws((3,)))
    got, found = layer(statistics), law(statistics[:1])
    assert found.std[0].tolist() == pytest.approx([np.log1p(np.exp(-1)), np.log1p(np.exp(1))])
    assert got.mean(dim=0).tolist() == pytest.approx(found.mean[0].tolist(), abs=0.03)
    assert got.std(dim=0).tolist() == pytest.approx(found.std[0].tolist(), rel=0.03)


def test_the_objective_adds_the_divergence_of_what_the_layer_was_given():
    defence, model = MID(beta=0.7), prepared().train()
    set_noise(model, Draws((1,)))
    targets = torch.eye(3, dtype=torch.float64)[[0, 1]]
    seen = passed(model, torch.randn(2, 4, dtype=torch.float64), Seen(torch.empty(0), targets))
    plain = cross_entropy(seen.outputs, targets)
    found = defence.objective(seen, lambda here: cross_entropy(here.outputs, here.targets))
    (statistics,) = seen.heard.values()
    assert torch.allclose(found, plain + 0.7 * divergence(*law(statistics)))
    found.sum().backward()
    assert model[-1][0].weight.grad[3:].abs().sum() > 0  # the half that gives the spread


def test_it_keeps_the_guarantee_of_a_private_update():
    data = Population(
        np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32), "example", labels=np.arange(32) % 3
    )
    found = Recipe(TASK, MID(inner=DPSGD.example())).fit(data, [Assignment(np.arange(16), 1)], LoopOptions())[0]
    assert isinstance(found.guarantee, Guarantee)


def test_what_is_no_plain_linear_layer_is_refused():
    model = LoRA(train_head=False).prepare(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    with pytest.raises(UnsupportedModel, match="LowRankLinear"):
        MID().prepare(model)


def test_numbers_are_checked():
    for wrong in ({"beta": -0.1}, {"width": 0}):
        with pytest.raises(UsageError):
            replace(MID(), **wrong)
