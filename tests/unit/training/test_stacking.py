import copy

import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel
from sfumato.models.dropout import replace_dropout
from sfumato.models.standardise import Standardise
from sfumato.sde.streams import set_noise
from sfumato.training.draws import Draws
from sfumato.training.stacking import build_stack

DRAWS = Draws((1, 2, 3), ("training",))


def networks(make):
    made = []
    for seed in DRAWS.seeds:
        torch.manual_seed(seed)
        made.append(replace_dropout(make()).double())
    return made


LAYERS = {
    "linear without bias": (lambda: nn.Linear(6, 4, bias=False), (6,)),
    "linear on more axes": (lambda: nn.Linear(6, 4), (5, 6)),
    "convolution, stride, dilation": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2), (2, 9, 9)),
    "grouped convolution": (lambda: nn.Conv2d(4, 8, 3, groups=2, bias=False), (4, 7, 7)),
    "batch norm of features": (lambda: nn.BatchNorm1d(6), (6,)),
    "batch norm without statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (3, 4, 4)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 5, 5)),
    "layer norm": (lambda: nn.LayerNorm((3, 4)), (3, 4)),
    "layer norm without weights": (lambda: nn.LayerNorm(4, elementwise_affine=False), (4,)),
    "standardise": (lambda: Standardise(torch.randn(3), torch.rand(3) + 0.5), (3, 4, 4)),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2), nn.Dropout1d(0.0)), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_each_layer_gives_outputs_and_gradients_of_the_single_networks(name, training):
    make, shape = LAYERS[name]
    alone = networks(make)
    stack = build_stack(copy.deepcopy(alone), torch.randn(5, *shape, dtype=torch.float64), DRAWS)
    batches = [torch.randn(5, *shape, dtype=torch.float64) for _ in alone]
    folded = torch.cat(batches).requires_grad_(True)
    set_noise(stack.module, DRAWS)
    out = stack.module.train(training)(folded)
    out.square().sum().backward() if out.requires_grad else None
    for m, (network, batch) in enumerate(zip(alone, batches, strict=True)):
        set_noise(network, Draws((DRAWS.seeds[m],), DRAWS.path))
        own = batch.clone().requires_grad_(True)
        expected = network.train(training)(own)
        expected.square().sum().backward()
        torch.testing.assert_close(out.chunk(3)[m], expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(folded.grad.chunk(3)[m], own.grad, rtol=1e-9, atol=1e-9)
        for (key, stacked), single in zip(stack.module.named_parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(stacked.grad[m], single.grad, rtol=1e-9, atol=1e-9, msg=key)
        for key, value in stack.state(m).items():
            torch.testing.assert_close(value, network.state_dict()[key], rtol=1e-10, atol=1e-10)


def test_states_go_in_and_out():
    alone = networks(lambda: nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    stack = build_stack(copy.deepcopy(alone), torch.randn(2, 3, dtype=torch.float64), DRAWS)
    stack.load([alone[i].state_dict() for i in (2, 1, 0)])
    assert torch.equal(stack.state(0)["0.weight"], alone[2].state_dict()["0.weight"])
    one = build_stack(alone[:1], torch.randn(2, 3, dtype=torch.float64), Draws((1,)))
    assert one.module is alone[0]
    one.load([alone[1].state_dict()])
    assert torch.equal(one.state(0)["0.weight"], alone[1].state_dict()["0.weight"])


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x - x.mean(0))


class OwnRandomness(Mixing):
    def forward(self, x):
        return self.layer(nn.functional.dropout(x, 0.5, self.training))


class Aside(Mixing):
    def __init__(self):
        super().__init__()
        self.beside = [nn.Linear(2, 2)]  # a list hides it from PyTorch: every model would use the first one's

    def forward(self, x):
        return self.beside[0].double()(self.layer(x))


def tied():
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Mixing, "different outputs"),
        (OwnRandomness, "train mode"),
        (Aside, "different outputs"),
        (tied, "shared by"),
        (lambda: nn.Sequential(nn.PReLU(), nn.Linear(3, 2)), "PReLU at `0`"),
        (lambda: nn.Conv2d(3, 3, 1, padding_mode="circular"), "zero padding"),
        (lambda: nn.BatchNorm1d(3, momentum=None), "momentum"),
    ],
)
def test_what_a_stack_would_not_compute_exactly_is_refused_by_name(make, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        build_stack(networks(make), torch.randn(4, 3, dtype=torch.float64), DRAWS)


def test_a_layer_that_is_used_twice_stays_one_layer():
    def make():
        layer = nn.Linear(3, 3)
        return nn.Sequential(layer, nn.ReLU(), layer)

    stack = build_stack(networks(make), torch.randn(4, 3, dtype=torch.float64), DRAWS)
    assert stack.module[0] is stack.module[2]
    assert len(list(stack.module.parameters())) == 2


def test_the_comparison_leaves_running_statistics_alone():
    alone = networks(lambda: nn.BatchNorm1d(3))
    stack = build_stack(alone, torch.randn(4, 3, dtype=torch.float64), DRAWS)
    assert all(int(network.num_batches_tracked) == 0 for network in alone)
    assert torch.equal(stack.module.running_mean, torch.zeros(3, 3, dtype=torch.float64))
