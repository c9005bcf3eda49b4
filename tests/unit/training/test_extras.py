from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.build import build_seeded
from sfumato.models.mlp import MLP
from sfumato.models.resnet import ResNet8
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.defence import Defence
from sfumato.training.extras import Extra, WithExtras, feature_size, features_of
from sfumato.training.loop import Training
from sfumato.training.preparation import Assignment, LoopOptions, extras_of, prepare
from sfumato.training.task import Optimizer, Task
from sfumato.training.train import train

NETWORKS = {"mlp": (MLP(hidden=(7, 5)), (3, 2), 5), "small-cnn": (SmallCNN(), (1, 8, 8), 64), "linear": (
    MLP(hidden=()), (6,), 6)}  # fmt: skip


@pytest.mark.parametrize("which", NETWORKS)
def test_features_are_what_the_last_linear_layer_is_given(which):
    family, shape, width = NETWORKS[which]
    network = build_seeded(family, shape, 4, 1)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(2))
    with features_of(network) as taken:
        outputs = network(x)
    features = taken.last()
    assert features.shape == (3, width)
    assert feature_size(network, shape) == width
    head = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    torch.testing.assert_close(head(features), outputs)
    assert features.requires_grad == (which != "linear")  # a loss of features reaches the layers before them


def test_features_of_a_residual_network_are_pooled():
    assert feature_size(build_seeded(ResNet8(), (3, 8, 8), 4, 1), (3, 8, 8)) == 64


def test_the_hook_is_gone_afterwards_also_after_an_error():
    network = build_seeded(MLP(), (3,), 2, 1)
    with pytest.raises(RuntimeError), features_of(network) as taken:
        network(torch.rand(2, 5))
    network(torch.rand(2, 3))
    assert taken.passes == []


def test_asking_for_the_size_leaves_mode_and_statistics_alone():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert feature_size(network, (3,)) == 3
    assert network.training
    assert network[0].training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert feature_size(network.double().eval(), (3,)) == 3
    assert not network.training


class Twice(nn.Module):
    """Its last linear layer runs twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x))


def test_a_last_layer_that_runs_twice_or_is_not_there_is_refused():
    with pytest.raises(UnsupportedModel, match="2 times"):
        feature_size(Twice(), (3,))
    with pytest.raises(UnsupportedModel, match="linear layer"):
        feature_size(nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Conv1d(1, 1, 1)), (3,))


def test_a_network_with_extras_runs_as_before_and_holds_all_parameters():
    network, module = build_seeded(MLP(), (3,), 2, 1), nn.Linear(4, 4)
    both = WithExtras(network, {"part": Extra(module, Optimizer())})
    x = torch.rand(2, 3)
    assert torch.equal(both(x), network(x))
    assert {id(p) for p in both.parameters()} == {id(p) for p in (*network.parameters(), *module.parameters())}
    assert {name.split(".")[0] for name, _ in both.named_parameters()} == {"network", "extras"}


@dataclass(frozen=True, kw_only=True)
class Pulls(Defence):
    """Pulls a point of its own to the mean of the features, and nothing else."""

    name: ClassVar[str] = "pulls"
    needs_features: ClassVar[bool] = True

    lr: float = 0.5

    def extra(self, features, classes):
        module = nn.Module()
        module.point = nn.Parameter(torch.randn(classes, features))
        return Extra(module, Optimizer(lr=self.lr, momentum=0.0))

    def objective(self, seen, inner):
        point = seen.extras[self.name].point
        return inner(seen) + (seen.targets @ point - seen.features.detach()).square().sum(dim=1) / 2


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 3)).astype(np.float32)
    return Population(ArrayRecords(x), "example", labels=np.arange(24) % 2)


TASK = Task(model=MLP(hidden=(4,)), epochs=3, batch_size=6)
DOUBLE = LoopOptions(dtype=torch.float64)


def test_extras_are_drawn_from_the_models_seed_alone(data):
    network = build_seeded(MLP(hidden=(4,)), (3,), 2, 1)

    def drawn(seed):
        return extras_of(Pulls(), network, (3,), 2, seed, torch.float64)["pulls"].module.point

    state = torch.random.get_rng_state()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert drawn(1).dtype == torch.float64
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(UsageError, match="pulls twice"):
        extras_of(Pulls(inner=Pulls()), network, (3,), 2, 1, torch.float64)


def test_extras_have_a_constant_rate_whatever_the_schedule_of_the_network(data):
    """A step of rate lr moves a point to (1 - lr n / b) point + lr / b * (sum of its n features)."""
    run = prepare(TASK, Pulls(), data, [Assignment(np.arange(6), 1)], DOUBLE)
    point = run.extras["pulls"].module.point
    training, expected = Training(run, DOUBLE), point.detach().clone()
    for _ in range(3):
        with torch.no_grad(), features_of(run.stack.module) as taken:
            run.stack.module(run.x[run.fit_rows[0]])
        targets = run.targets[run.fit_rows[0]]
        sums, counts = targets.T @ taken.last(), targets.sum(dim=0)[:, None]
        expected = (1 - 0.5 * counts / 6) * expected + 0.5 / 6 * sums
        training._epoch()
        training.epoch += 1
        torch.testing.assert_close(point.detach(), expected)


def test_a_part_with_extras_does_not_disturb_the_network_and_is_trained_one_model_at_a_time(data):
    """Its own loss has no gradient for the network here."""
    work = [Assignment(np.arange(12), seed) for seed in (1, 2)]
    alone = train(TASK, Pulls(), data, work[:1], DOUBLE)[0]
    plain = train(TASK, Defence(), data, work[:1], DOUBLE)[0]
    assert all(torch.equal(alone.state[name], value) for name, value in plain.state.items())
    with pytest.raises(UnsupportedModel, match="pulls"):
        train(TASK, Pulls(), data, work, DOUBLE)
