import numpy as np
import pytest
import torch
from torch import nn

from sfumato.accounting.guarantee import Guarantee
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.rolss import RoLSS
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.build import build_seeded
from sfumato.models.mlp import MLP
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8, ResNet18, ResNet20
from sfumato.models.small_cnn import SmallCNN
from sfumato.models.wide_resnet import WideResNet
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task

IMAGE = (1, 8, 8)
FAMILIES = {
    "resnet-8": (ResNet8(width=2), IMAGE, 1, 0),
    "resnet-20": (ResNet20(width=2), IMAGE, 3, 0),
    "resnet-18": (ResNet18(width=2, norm="group"), IMAGE, 2, 3),
    "wide-resnet": (WideResNet(depth=16, width=1), IMAGE, 2, 1),
    "residual-net": (ResidualNet(channels=4, blocks=3), IMAGE, 3, 0),
    "residual-net on a table": (ResidualNet(width=6, blocks=2), (5,), 2, 0),
}


def both(name, **fields):
    family, shape, *_ = FAMILIES[name]
    plain = build_seeded(family, shape, 3, 1)
    return plain, RoLSS(**fields).prepare_for(build_seeded(family, shape, 3, 1), shape), torch.rand(4, *shape)


def rewritten(model):
    return [part for part in model.modules() if type(part).__name__.startswith("Skipless")]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("training", [True, False])
def test_a_factor_of_one_is_the_old_network(name, training):
    plain, made, x = both(name, factor=1.0)
    assert torch.equal(made.train(training)(x), plain.train(training)(x))
    assert made.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_stage_loses_its_skips_and_the_main_branch_stays_as_it_was(name):
    plain, made, x = both(name)
    _, _, blocks, lost = FAMILIES[name]
    assert len(rewritten(made)) == blocks
    states = plain.state_dict(), made.state_dict()
    assert len(states[0]) - len(states[1]) == lost
    assert all(torch.equal(value, states[0][key]) for key, value in states[1].items())
    assert all("shortcut" in key or "projection" in key for key in states[0].keys() - states[1].keys())
    assert not torch.allclose(made.eval()(x), plain.eval()(x))


def test_what_a_block_without_its_skip_computes():
    plain, made, _ = both("resnet-18")
    block = rewritten(made)[0]
    old = next(part for name, part in plain.named_modules() if made.get_submodule(name) is block)
    h = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(h), torch.relu(old.residual(h)))
    _, weaker, _ = both("resnet-18", factor=0.25)
    torch.testing.assert_close(rewritten(weaker)[0](h), torch.relu(old.residual(h) + 0.25 * old.shortcut(h)))


def test_other_places():
    assert len(rewritten(both("resnet-20", where="last-block")[1])) == 1
    assert len(rewritten(both("resnet-20", where="all")[1])) == 9


class Joined(nn.Module):
    """Two layers whose outputs are added: no side is a skip connection. And one joined by concatenation."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x):
        return self.c(torch.cat([self.a(x) + self.b(x), x], dim=1))


class Parallel(nn.Module):
    """Two branches of several layers each, one deeper: the shorter one is no skip connection either."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.b = nn.Sequential(self.a[0], nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x):
        return self.a(x) + self.b(x)


class Twice(nn.Module):
    """Attention-like: two sums, one behind the other, the first in place."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 3)

    def forward(self, x):
        out = self.a(x)
        out += x
        return self.c(out + self.b(out))


@pytest.mark.parametrize("model", [SmallCNN().build(IMAGE, 3), MLP().build((4,), 3), Joined(), Parallel()])
def test_networks_without_skips_are_refused_with_the_reason(model):
    with pytest.raises(UnsupportedModel, match="Expected a network with skip connections"):
        RoLSS().prepare(model)


def test_networks_of_others_are_followed():
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(3, 4)
    expected = model.c(model.b(model.a(x)))
    made = RoLSS().prepare(model)
    torch.testing.assert_close(made(x), expected)


def test_a_forward_pass_that_cannot_be_followed_is_named():
    class Branches(Twice):
        def forward(self, x):
            return self.c(x + self.a(x)) if x.sum() > 0 else self.c(x)

    with pytest.raises(UnsupportedModel, match="does not follow its forward"):
        RoLSS().prepare(Branches())


def test_it_stands_under_a_private_update():
    rng = np.random.default_rng(0)
    data = Population(rng.random((32, *IMAGE), np.float32), "example", labels=np.arange(32) % 3, kind="image")
    recipe = Recipe(Task(model=ResNet8(width=4, norm="group")), RoLSS(inner=DPSGD.example()))
    found = recipe.fit(data, [Assignment(np.arange(16), 1)], LoopOptions())[0]
    assert isinstance(found.guarantee, Guarantee)


def test_numbers_are_checked():
    for wrong in ({"factor": 1.5}, {"factor": -0.1}, {"where": "first"}):
        with pytest.raises(UsageError):
            RoLSS(**wrong)
