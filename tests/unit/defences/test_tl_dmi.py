from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.canonical import content_hash
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.tl_dmi import TLDMI, StillNorm
from sfumato.errors import StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.build import build_seeded
from sfumato.models.resnet import ResNet8
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.stacking import build_stack
from sfumato.training.task import Optimizer, Task

SHAPE = (1, 8, 8)
CONVOLUTIONS = ["0", "3"]


def population():
    x = np.random.default_rng(0).random((30, *SHAPE), np.float32)
    return Population(x, "example", labels=np.arange(30) % 3, kind="image")


@pytest.fixture
def public(tmp_path):
    """Weights of a network for other classes."""
    path = tmp_path / "public.safetensors"
    save_file(build_seeded(SmallCNN(), SHAPE, 5, 7).state_dict(), path)
    return str(path)


@pytest.fixture
def normed(tmp_path):
    """Weights of a network with batch normalisation whose statistics are no longer fresh."""
    path, model = tmp_path / "normed.safetensors", build_seeded(ResNet8(width=2), SHAPE, 5, 7)
    model.train()(torch.rand(8, *SHAPE))
    save_file(model.state_dict(), path)
    return str(path)


def trained(defence, family=None):
    task = Task(model=family or SmallCNN(), epochs=1, batch_size=8, optimizer=Optimizer(lr=0.3))
    recipe = Recipe(task, defence)
    return recipe, recipe.fit(population(), [Assignment(np.arange(24), 1)], LoopOptions())[0]


def test_early_layers_are_the_public_ones_to_the_last_bit_and_the_others_move(public):
    given, (_, found) = load_file(public), trained(TLDMI(weights=public))
    for name, value in found.state.items():
        if name.split(".")[0] in CONVOLUTIONS:
            assert torch.equal(value, given[name])
        elif value.shape == given[name].shape:
            assert not torch.equal(value, given[name])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"share": 0.02}, ["0"]), ({}, ["0", "3"]), ({"share": 0.999}, ["0", "3", "7"]), ({"layers": "[37]"}, ["3", "7"])],
)
def test_what_freezes_is_a_share_of_the_parameters_or_what_was_named(public, fields, expected):
    model = build_seeded(SmallCNN(), SHAPE, 3, 1)
    assert TLDMI(weights=public, **fields).frozen(model) == expected
    made = TLDMI(weights=public, **fields).prepare(model)
    assert sorted({n.split(".")[0] for n, p in made.named_parameters() if not p.requires_grad}) == expected


@pytest.mark.parametrize("fields", [{"share": 0.001}, {"layers": "nothing"}])
def test_freezing_nothing_is_refused_with_the_sizes(public, fields):
    with pytest.raises(UnsupportedModel, match=r"Layers and their numbers of parameters: 0 \(160\)"):
        TLDMI(weights=public, **fields).prepare(build_seeded(SmallCNN(), SHAPE, 3, 1))


def test_without_public_weights_it_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match="Train the same network on public records"):
        TLDMI()


def test_a_layer_that_freezes_must_come_from_the_weights(tmp_path):
    state = build_seeded(SmallCNN(), SHAPE, 5, 7).state_dict()
    save_file({name: value for name, value in state.items() if name != "3.bias"}, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"none for 3\.bias"):
        TLDMI(weights=str(tmp_path / "w.safetensors")).prepare(build_seeded(SmallCNN(), SHAPE, 3, 1))


def test_statistics_of_frozen_normalisation_stay_those_of_the_public_data(normed):
    given, defence = load_file(normed), TLDMI(weights=normed, share=0.3)
    recipe, found = trained(defence, ResNet8(width=2))
    frozen = defence.frozen(build_seeded(ResNet8(width=2), SHAPE, 3, 1))
    assert "1" in frozen
    for name in frozen:
        own = [key for key in given if key.startswith(f"{name}.")]
        assert own
        assert all(torch.equal(found.state[key], given[key]) for key in own)
    network = recipe.network(found, population())
    assert [type(network.get_submodule(name)) for name in ("0", "1")] == [nn.Conv2d, StillNorm]


def test_still_normalisation_is_that_of_eval_mode_in_every_mode_and_in_a_stack():
    norms = []
    for seed in range(3):
        torch.manual_seed(seed)
        norm = nn.BatchNorm2d(2).double()
        norm.train()(torch.randn(6, 2, 3, 3).double() * (seed + 1))
        norms.append(norm)
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    still = [StillNorm(norm) for norm in norms]
    assert still[0].state_dict().keys() == norms[0].state_dict().keys()
    for training in (True, False):
        torch.testing.assert_close(still[1].train(training)(x), norms[1].eval()(x))
    stack = build_stack(still, x, Draws((1, 2, 3)))
    expected = torch.cat([norm.eval()(x) for norm in norms])
    torch.testing.assert_close(stack.module(torch.cat([x, x, x])), expected)
    with pytest.raises(UnsupportedModel, match="running statistics"):
        StillNorm(nn.BatchNorm2d(2, track_running_stats=False))


def test_public_weights_keep_the_guarantee_of_a_private_update(public):
    private = TLDMI(weights=public, inner=DPSGD.example())
    assert isinstance(trained(private)[1].guarantee, Guarantee)
    assert isinstance(trained(replace(private, inner=None))[1].guarantee, NoGuarantee)


def test_it_is_named_by_the_content_of_the_weights(public, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "public.safetensors").write_bytes((tmp_path / "public.safetensors").read_bytes())
    first = TLDMI(weights=public)
    assert content_hash(first) == content_hash(TLDMI(weights=str(moved / "public.safetensors")))
    assert content_hash(first) != content_hash(replace(first, share=0.1))
    save_file(build_seeded(SmallCNN(), SHAPE, 5, 8).state_dict(), public)
    with pytest.raises(StoreMismatch):
        first.prepare(build_seeded(SmallCNN(), SHAPE, 3, 1))
