import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.models.regions import Regions
from sfumato.models.resnet import ResNet8
from sfumato.training.preparation import Assignment, LoopOptions, network_of
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task
from sfumato.training.trained import Trained
from sfumato.training.variants import RegionFrozen, RegionRewound, RegionTransplanted, estimate_statistics

SEED, ROWS = 7, np.arange(20)
TASKS = {
    "mlp": Task(model=MLP(hidden=(6,)), optimizer=Optimizer(lr=0.1), epochs=2, batch_size=8, standardise=True),
    "resnet": Task(model=ResNet8(width=2), optimizer=Optimizer(lr=0.1), epochs=1, batch_size=8),
}


def population(name: str) -> Population:
    rng = np.random.default_rng(0)
    shape, kind = ((5,), "table") if name == "mlp" else ((1, 8, 8), "image")
    return Population(rng.normal(size=(40, *shape)).astype(np.float32), "example", labels=np.arange(40) % 3, kind=kind)


def fitted(name: str, defence) -> Trained:
    return Recipe(TASKS[name], defence).fit(population(name), [Assignment(ROWS, SEED)], LoopOptions())[0]


def initial(name: str) -> dict[str, torch.Tensor]:
    shape = population(name).records.shape
    return network_of(TASKS[name], Undefended(), shape, 3, SEED).state_dict()


def regions(name: str):
    return Regions().of(network_of(TASKS[name], Undefended(), population(name).records.shape, 3, SEED))


@pytest.fixture(scope="module", params=TASKS)
def two(request):
    """A kind of network, trained ordinarily and with a defence."""
    name = request.param
    return name, fitted(name, Undefended()).state, fitted(name, LabelSmoothing(smoothing=0.5)).state


def parameters(name: str) -> set[str]:
    return {one for region in regions(name) for one in region.parameters}


def test_a_transplant_is_the_one_region_of_the_other_network_to_the_bit(two):
    name, ordinary, private = two
    for region in regions(name):
        found = fitted(name, RegionTransplanted(region=region.name, ordinary=ordinary, private=private)).state
        for one in parameters(name):
            source = private if one in region.parameters else ordinary
            assert torch.equal(found[one], source[one]), one
    assert any(not torch.equal(ordinary[one], private[one]) for one in parameters(name))


def test_a_rewound_region_starts_at_its_initial_values_and_the_rest_stays_to_the_bit(two):
    name, ordinary, _ = two
    region, still = regions(name)[0], Optimizer(lr=1e-60, momentum=0.0)
    recipe = Recipe(Task(model=TASKS[name].model, optimizer=still, epochs=1, standardise=TASKS[name].standardise),
                    RegionRewound(region=region.name, epochs=1, ordinary=ordinary))  # fmt: skip
    unmoved = recipe.fit(population(name), [Assignment(ROWS, SEED)], LoopOptions())[0].state
    moved = fitted(name, RegionRewound(region=region.name, epochs=1, ordinary=ordinary)).state
    for one in parameters(name):
        if one in region.parameters:
            assert torch.equal(unmoved[one], initial(name)[one]), one
        else:
            assert torch.equal(moved[one], ordinary[one]), one
    assert any(not torch.equal(moved[one], initial(name)[one]) for one in region.parameters)


def test_rewinding_runs_the_objective_that_it_is_wrapped_around(two):
    name, ordinary, _ = two
    plain = RegionRewound(region="head", epochs=1, ordinary=ordinary)
    smooth = RegionRewound(region="head", epochs=1, ordinary=ordinary, inner=LabelSmoothing(smoothing=0.5))
    head = regions(name)[-1].parameters[0]
    assert not torch.equal(fitted(name, plain).state[head], fitted(name, smooth).state[head])


def test_a_frozen_region_stays_at_its_initial_values_to_the_bit(two):
    name = two[0]
    for region in regions(name):
        found = fitted(name, RegionFrozen(region=region.name)).state
        for one in parameters(name):
            assert torch.equal(found[one], initial(name)[one]) == (one in region.parameters), one


def test_frozen_networks_can_be_stacked():
    work = [Assignment(ROWS, seed) for seed in (1, 2)]
    recipe = Recipe(TASKS["mlp"], RegionFrozen(region="stem"))
    together = recipe.fit(population("mlp"), work, LoopOptions())
    alone = [recipe.fit(population("mlp"), [one], LoopOptions())[0] for one in work]
    for a, b in zip(together, alone, strict=True):
        assert all(torch.allclose(a.state[k], b.state[k], atol=1e-5) for k in a.state)


def test_a_rewound_region_takes_a_private_update_and_has_no_guarantee():
    task, work, private = Task(model=MLP(hidden=(6,)), epochs=1), [Assignment(ROWS, SEED)], DPSGD.example()
    plain = Recipe(task, private).fit(population("mlp"), work, LoopOptions())[0]
    rewound = RegionRewound(region="head", epochs=1, inner=private, ordinary=plain.state)
    found = Recipe(task, rewound).fit(population("mlp"), work, LoopOptions())[0]
    assert found.guarantee_statement.startswith("none")
    body = [one for one in found.state if one.endswith("1.weight") and found.state[one].shape == (6, 5)]
    assert body
    assert all(torch.equal(found.state[one], plain.state[one]) for one in body)


def test_states_of_other_networks_are_refused(two):
    name, ordinary, _ = two
    short = dict(list(ordinary.items())[:-1])
    with pytest.raises(UsageError, match="same network"):
        fitted(name, RegionRewound(region="head", epochs=1, ordinary=short))


def test_statistics_are_averages_over_batches_and_nothing_else_moves():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    x = torch.randn(50, 3)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert estimate_statistics(network, x)
    hidden = network[0](x).detach()
    assert torch.allclose(network[1].running_mean, hidden.mean(0), atol=1e-6)
    assert torch.allclose(network[1].running_var, hidden.var(0), atol=1e-6)
    assert network[1].momentum == 0.1
    assert not any(layer.training for layer in network.modules())
    moved = {k for k in before if not torch.equal(before[k], network.state_dict()[k])}
    assert moved == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert not estimate_statistics(nn.Linear(3, 4), x)
