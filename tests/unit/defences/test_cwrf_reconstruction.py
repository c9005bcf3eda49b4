from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population, Unit
from sfumato.defences.cwrf_reconstruction import (
    CWRFReconstruction,
    halves,
    holding,
    most_vulnerable,
    released,
    vulnerability,
)
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.undefended import Undefended
from sfumato.models.mlp import MLP
from sfumato.models.resnet import ResNet8
from sfumato.training.preparation import Assignment, LoopOptions, network_of, prepare
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task
from sfumato.training.trained import Trained
from sfumato.training.workshop import Workshop

TASK = Task(model=MLP(hidden=(6,)), optimizer=Optimizer(lr=0.1, weight_decay=1e-2), epochs=2, batch_size=8)
SEED = 3


def population(shape: tuple[int, ...] = (5,)) -> Population:
    rng = np.random.default_rng(0)
    unit = Unit("person", np.arange(40) // 2)
    kind = "table" if len(shape) == 1 else "image"
    return Population(rng.normal(size=(40, *shape)).astype(np.float32), unit, labels=np.arange(40) % 3, kind=kind)


def fitted(defence, task: Task = TASK, shape: tuple[int, ...] = (5,)) -> Trained:
    return Recipe(task, defence).fit(population(shape), [Assignment(np.arange(20), SEED)], LoopOptions())[0]


def initial(task: Task = TASK, shape: tuple[int, ...] = (5,)) -> dict[str, torch.Tensor]:
    return network_of(task, Undefended(), shape, 3, SEED).state_dict()


def at_start(state, start) -> float:
    """Share of the parameters that hold their initial values to the bit."""
    flat = torch.cat([(state[k] == start[k]).flatten() for k in start if state[k].is_floating_point()])
    return float(flat.double().mean())


@pytest.mark.parametrize("rewound", [0.05, 0.3])
def test_the_share_of_weights_is_back_at_its_initial_values_and_all_others_moved(rewound):
    found = fitted(CWRFReconstruction(rewound=rewound, inner=LabelSmoothing(smoothing=0.3))).state
    weights = sum(value.numel() for value in initial().values())
    assert at_start(found, initial()) == pytest.approx(round(rewound * weights) / weights)
    assert list(found) == list(initial())


def test_the_rest_is_tuned_with_the_inner_objective():
    plain, smooth = (fitted(CWRFReconstruction(inner=inner)).state for inner in (None, LabelSmoothing(smoothing=0.3)))
    assert torch.equal(plain["1.weight"] == initial()["1.weight"], smooth["1.weight"] == initial()["1.weight"])
    assert not torch.equal(plain["3.weight"], smooth["3.weight"])


def test_private_steps_keep_frozen_weights_where_they_are_and_give_no_guarantee():
    private = replace(DPSGD.example(), max_records_per_unit=2)
    task = replace(TASK, optimizer=Optimizer(lr=0.1))
    found = fitted(CWRFReconstruction(rewound=0.3, inner=private), task)
    start = initial(task)
    state = {k.removeprefix("1."): v for k, v in found.state.items() if k.startswith("1.")}
    assert at_start(state, start) == pytest.approx(0.3, abs=0.01)
    assert found.guarantee_statement.startswith("none, because of cwrf-reconstruction: ordinary steps")


def test_batch_normalisation_is_no_obstacle():
    task = Task(model=ResNet8(width=2), optimizer=Optimizer(lr=0.1), epochs=1, batch_size=10)
    found = fitted(CWRFReconstruction(rewound=0.5, inner=LabelSmoothing(smoothing=0.3)), task, (1, 8, 8)).state
    assert list(found) == list(initial(task, (1, 8, 8)))


def test_the_halves_cut_no_unit_and_are_the_whole_training_set():
    data = population()
    run = prepare(TASK, CWRFReconstruction(), data, [Assignment(np.arange(20), SEED)], LoopOptions())
    parts = halves(Workshop(run, LoopOptions()))
    assert sorted([*parts.seen.tolist(), *parts.unseen.tolist()]) == list(range(20))
    assert not {row // 2 for row in parts.seen.tolist()} & {row // 2 for row in parts.unseen.tolist()}
    assert len(parts.seen) == 10


def test_scores_and_places():
    seen, unseen = ({"w": torch.tensor(values)} for values in ([1.0, 2.0, 0.0], [3.0, 2.0, -1.0]))
    scores = vulnerability({"w": torch.tensor([0.5, 9.0, -4.0])}, seen, unseen)
    assert scores["w"].tolist() == [1.0, 0.0, 4.0]
    two = {"a": torch.tensor([[1.0, 5.0]]), "b": torch.tensor([5.0, 2.0])}
    assert {k: v.tolist() for k, v in most_vulnerable(two, 0.25).items()} == {"a": [[False, True]], "b": [False, False]}
    assert {k: v.tolist() for k, v in most_vulnerable(two, 0.5).items()} == {"a": [[False, True]], "b": [True, False]}
    assert sum(int(v.sum()) for v in most_vulnerable(two, 1e-6).values()) == 1, "at least one"


def test_held_weights_do_not_move_and_others_move_as_they_would():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    mask = torch.tensor([[True, False, False], [False, False, True]])
    values = {"weight": torch.full((2, 3), 7.0)}
    free = network.weight.detach().clone()
    holding(network, {"weight": mask, "bias": torch.zeros(2, dtype=torch.bool)}, values)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    x = torch.ones(4, 3)
    for _ in range(3):
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()
    released(network)
    assert list(dict(network.named_parameters())) == ["bias", "weight"] or "weight" in dict(network.named_parameters())
    assert torch.equal(network.weight[mask], torch.full((2,), 7.0))
    assert bool((network.weight[~mask] != free[~mask]).all())
    assert type(network) is nn.Linear
