import numpy as np
import pytest
import torch
from torch import nn

from sfumato.data.population import Population
from sfumato.defences.bido import BiDO, centred, coco, gaussian_kernel, hsic, regularised
from sfumato.defences.dpsgd import DPSGD
from sfumato.errors import NotPrivateError, UnsupportedModel, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.residual_net import ResidualNet
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.hearing import passed
from sfumato.training.losses import cross_entropy
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.seen import Seen
from sfumato.training.task import Optimizer, Task

FORMS = {"hsic": (regularised, hsic), "coco": (centred, coco)}


def dependence(measure, x, y):
    form, dep = FORMS[measure]
    return dep(form(gaussian_kernel(x[None], 5.0)), form(gaussian_kernel(y[None], 5.0)))[0]


def sample(seed, rows=20, columns=3):
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("measure", FORMS)
def test_dependence_does_not_mind_order_shifts_rotations_or_which_comes_first(measure):
    x, y = sample(0), sample(1)
    first = dependence(measure, x, y)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(sample(3, 3)).Q
    for other in (
        dependence(measure, x[order], y[order]),
        dependence(measure, x + 7, y),
        dependence(measure, x @ rotation, y),
        dependence(measure, y, x),
    ):
        assert float(other) == pytest.approx(float(first), rel=1e-6)


@pytest.mark.parametrize("measure", FORMS)
def test_a_function_of_the_input_depends_on_it_more_than_a_shuffled_one_and_a_constant_not_at_all(measure):
    x = sample(0, rows=40, columns=1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    near = dependence(measure, x, x.sin())
    assert near > dependence(measure, x, x.sin()[order])
    assert dependence(measure, x, torch.ones_like(x)) == pytest.approx(0, abs=1e-9)


def test_one_record_alone_depends_on_nothing():
    for measure in FORMS:
        assert dependence(measure, sample(0, rows=1), sample(1, rows=1)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("family", "shape", "count"), [(MLP(hidden=(4, 4)), (6,), 2), (SmallCNN(), (1, 8, 8), 3)])
def test_every_activation_is_heard_and_the_names_of_the_weights_stay(family, shape, count):
    plain = family.build(shape, 3)
    model = BiDO().prepare(family.build(shape, 3))
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.load_state_dict(plain.state_dict())
    x = torch.rand(2, *shape)
    seen = passed(model, x, Seen(torch.empty(0), torch.eye(3)[[0, 1]]))
    assert len(seen.heard) == count
    assert torch.equal(seen.outputs, plain(x))


def test_layers_can_be_named_and_must_be_there():
    model = BiDO(layers=r"\d+").prepare(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)))
    assert len(passed(model, torch.randn(3, 4), Seen(torch.empty(0), torch.eye(3))).heard) == 2  # never the last one
    with pytest.raises(UnsupportedModel, match="Expected hidden layers"):
        BiDO().prepare(MLP(hidden=()).build((4,), 2))
    with pytest.raises(UsageError, match="regular expression"):
        BiDO(layers="(")


def test_training_with_it_makes_states_depend_less_on_inputs_and_more_on_labels():
    x = sample(0, rows=48, columns=4)
    data = Population(x.numpy().astype(np.float32), "example", labels=(x[:, 0] > 0).long().numpy())
    task = Task(model=MLP(hidden=(8,), activation="tanh"), epochs=15, batch_size=48, optimizer=Optimizer(lr=0.05))

    def trained(**weights):
        recipe = Recipe(task, BiDO(**weights))
        model = recipe.network(recipe.fit(data, [Assignment(np.arange(48), 1)], LoopOptions())[0], data)
        seen = passed(model, x.float(), Seen(torch.empty(0), torch.eye(2)[data.label_array].double()))
        (state,) = (value.double() for value in seen.heard.values())
        return dependence("hsic", x, state), dependence("hsic", seen.targets, state)

    plain = trained(input_weight=0.0, label_weight=0.0)
    assert trained(input_weight=1.0, label_weight=0.0)[0] < 0.9 * plain[0]
    assert trained(input_weight=0.0, label_weight=5.0)[1] > plain[1]


def test_inputs_are_needed():
    seen = Seen(torch.zeros(2, 2), torch.eye(2), heard={"bido/1": torch.zeros(2, 3)})
    with pytest.raises(UsageError, match="Expected the inputs"):
        BiDO().objective(seen, lambda here: cross_entropy(here.outputs, here.targets))


def test_under_a_private_update_it_is_refused_with_the_reason():
    data = Population(np.zeros((8, 4), np.float32), "example", labels=np.arange(8) % 2)
    recipe = Recipe(Task(model=ResidualNet(width=4)), BiDO(inner=DPSGD.example()))
    with pytest.raises(NotPrivateError, match="within a whole batch"):
        recipe.fit(data, [Assignment(np.arange(8), 1)], LoopOptions())
