from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.lora import LoRA
from sfumato.defences.pretrained import Pretrained
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.base import ModelFamily
from sfumato.models.build import build_seeded
from sfumato.models.low_rank import merge
from sfumato.models.resnet import ResNet8
from sfumato.models.small_cnn import SmallCNN
from sfumato.private.session import make
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

FAMILY, SHAPE = SmallCNN(), (1, 8, 8)
TASK = Task(model=FAMILY, epochs=1, batch_size=8, optimizer=Optimizer(lr=0.5))


def population(classes=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, *SHAPE)).astype(np.float32)
    return Population(x, "example", labels=np.arange(30) % classes, kind="image")


@pytest.fixture
def public(tmp_path):
    """Weights of a network for other classes."""
    path = tmp_path / "public.safetensors"
    save_file(build_seeded(FAMILY, SHAPE, 5, 7).state_dict(), path)
    return str(path)


def trained(defence, seed=1):
    recipe = Recipe(TASK, defence)
    return recipe, recipe.fit(population(), [Assignment(np.arange(24), seed)], LoopOptions())[0]


def names(model):
    """Of what is trained."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_only_the_factors_and_the_head_are_trained_and_all_of_them_move(public):
    split = LoRA(rank=2, inner=Pretrained(weights=public, data="public", inner=DPSGD.example()))
    recipe, result = trained(split)
    assert isinstance(result.guarantee, Guarantee)
    state = {name.partition(".")[2]: value for name, value in result.state.items()}  # behind the scaling of inputs
    start = split.prepare(split.inner.prepare(build_seeded(FAMILY, SHAPE, 3, 1)))
    changed = [name for name, value in start.state_dict().items() if not torch.equal(state[name], value)]
    assert changed == names(start)
    assert len(names(start)) == 2 * 3 + 2  # two convolutions and a linear layer, and the head's weight and bias
    given = load_file(public)
    kept = [name for name in given if name in state and given[name].shape == state[name].shape]
    assert len(kept) == len(given) - 2
    assert all(torch.equal(state[name], given[name]) for name in kept)
    x = population().tensor(np.arange(6))
    network = recipe.network(result, population())
    with torch.no_grad():
        expected = network(x)
        assert torch.allclose(merge(network)(x), expected, atol=1e-5)
    assert not any("lora" in name for name in network.state_dict())


def test_the_order_of_the_two_parts_does_not_matter(public):
    one = LoRA(rank=2, inner=Pretrained(weights=public, data="public"))
    two = Pretrained(weights=public, data="public", inner=LoRA(rank=2))
    first, second = trained(one)[1].state, trained(two)[1].state
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_is_repeatable_from_its_seed():
    states = []
    for other in (3, 4):
        torch.manual_seed(other)
        states.append(trained(LoRA(rank=1))[1].state)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_gives_no_guarantee_by_itself_and_takes_none_away(public):
    start = Pretrained(weights=public, data="private", inner=DPSGD.example())
    for defence in (LoRA(), LoRA(inner=start)):
        assert isinstance(trained(defence)[1].guarantee, NoGuarantee)


def test_one_pass_is_exact_for_the_factors(public):
    """Clipped sums in one pass against a loop over single examples, in float64."""
    split = LoRA(rank=2, inner=Pretrained(weights=public, data="public"))
    model = split.prepare(split.inner.prepare(build_seeded(FAMILY, SHAPE, 3, 1))).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(9, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.arange(9) % 3
    plan = DPSGD.example().plan(population())
    found = []
    for method in ("capture", "loop"):
        session = make(model, plan=plan, data=(x, y), loss=_losses, audit_seed=0, method=method)
        session.backward(np.arange(9))
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert sorted(found[0]) == sorted(names(model))
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], rtol=0, atol=1e-10), name


def _losses(model, x, y):
    return nn.functional.cross_entropy(model(x), y, reduction="none")


@pytest.mark.parametrize(
    ("options", "adapted", "head"),
    [
        ({}, ["0", "3", "7"], True),
        ({"train_head": False}, ["0", "3", "7", "9"], False),
        ({"layers": r"[37]"}, ["3", "7"], True),
    ],
    ids=str,
)
def test_the_named_layers_are_adapted(options, adapted, head):
    model = LoRA(**options).prepare(FAMILY.build(SHAPE, 3))
    factors = {name.rpartition(".")[0] for name in names(model) if "lora" in name}
    assert sorted(factors) == adapted
    assert [name for name in names(model) if "lora" not in name] == (["9.weight", "9.bias"] if head else [])


def test_alpha_over_rank_is_the_factor():
    model = LoRA(rank=4, alpha=2.0).prepare(FAMILY.build(SHAPE, 3))
    assert model[7].low_rank_scale == 0.5


@dataclass(frozen=True, kw_only=True)
class OnlyAHead(ModelFamily):
    def build(self, shape, outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(UnsupportedModel, match="got none among 0"):
        LoRA(layers="nothing").prepare(FAMILY.build(SHAPE, 3))
    with pytest.raises(UnsupportedModel, match="got none among none"):
        LoRA().prepare(OnlyAHead().build(SHAPE, 3))
    with pytest.raises(UnsupportedModel, match="got GroupNorm at `1`"):
        LoRA(layers="1").prepare(ResNet8(norm="group").build((3, 8, 8), 3))
    with pytest.raises(UsageError, match="regular expression"):
        LoRA(layers="(")
    for bad in ({"rank": 0}, {"alpha": 0.0}):
        with pytest.raises(UsageError):
            LoRA(**bad)
