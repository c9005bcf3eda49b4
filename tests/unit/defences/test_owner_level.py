"""All records of a person as one unit: clipped together, hidden together, and accounted as one."""

import numpy as np
import pytest
import torch

from sfumato.accounting.guarantee import Guarantee
from sfumato.data.population import Population, Unit
from sfumato.defences.dpsgd import DPSGD
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.defence import configured
from sfumato.training.losses import cross_entropy
from sfumato.training.preparation import Assignment, LoopOptions, network_of
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

OWNERS, EACH, CLASSES, RATE, BOUND = 4, 20, 5, 0.7, 0.05
TASK = Task(model=MLP(hidden=(6,)), optimizer=Optimizer(lr=RATE, momentum=0.0), schedule="constant")


def population(each=EACH):
    """Owners with pictures of mixed classes, so that unit and class differ."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(OWNERS * each, 4)).astype(np.float32)
    owners = rng.permutation(np.repeat(np.arange(OWNERS), each))
    return Population(x, Unit("owner", owners), labels=rng.integers(0, CLASSES, OWNERS * each))


def defence(**fields):
    """One step that everybody takes part in, with so little noise that the sum can be read."""
    given = {
        "sample_rate": 1.0, "expected_batch_size": 8.0, "steps": 1, "delta": 1e-5, "adjacency": "ADD_OR_REMOVE_ONE",
        "noise_multiplier": 1e-5, "max_grad_norm": BOUND, "max_records_per_unit": EACH,
        "input_mean": 0.0, "input_std": 1.0,
    }  # fmt: skip
    return DPSGD(**(given | fields))


def trained(made, data):
    recipe = Recipe(TASK, made)
    (found,) = recipe.fit(data, [Assignment(np.arange(len(data)), 1)], LoopOptions(dtype=torch.float64))
    return recipe, found


def start(recipe):
    task = configured(recipe.defence, TASK)
    return network_of(task, recipe.defence, (4,), CLASSES, 1).double()


def gradient(model, x, y):
    targets = torch.eye(CLASSES, dtype=torch.float64)[y]
    found = torch.autograd.grad(cross_entropy(model(x), targets).mean(), list(model.parameters()))
    return torch.cat([part.flatten() for part in found])


def released(recipe, found, data):
    """The sum over units that the step released, from how far the weights went."""
    before = torch.cat([value.flatten() for value in start(recipe).parameters()])
    after = torch.cat([value.flatten() for value in recipe.network(found, data).parameters()])
    return (before - after) / RATE * recipe.defence.expected_batch_size


def clipped(vector):
    return vector * min(1.0, BOUND / float(vector.norm()))


def test_the_twenty_records_of_an_owner_are_clipped_as_one():
    data = population()
    recipe, found = trained(defence(), data)
    model, x, y = start(recipe), data.tensor(np.arange(len(data))).double(), torch.from_numpy(data.label_array)
    owners = [torch.from_numpy(np.flatnonzero(data.unit_of == owner)) for owner in range(OWNERS)]
    gradients = [gradient(model, x[rows], y[rows]) for rows in owners]
    assert all(float(each.norm()) > BOUND for each in gradients)  # else nothing was clipped
    together = sum(clipped(each) for each in gradients)
    torch.testing.assert_close(released(recipe, found, data), together, rtol=0, atol=1e-4 * BOUND)
    one_by_one = sum(clipped(gradient(model, x[[row]], y[[row]])) for row in range(len(data)))
    assert float((one_by_one - together).norm()) > BOUND  # what clipping single records would have given


def test_one_owner_moves_the_sum_by_the_bound_whatever_their_records_are():
    data = population()
    recipe, found = trained(defence(), data)
    own = data.unit_of == 2
    worse = data.tensor(np.arange(len(data))).numpy().copy()
    worse[own] *= 1e3
    other = Population(worse, data.unit, labels=np.where(own, 0, data.label_array))
    _, changed = trained(defence(), other)
    moved = (released(recipe, found, data) - released(recipe, changed, other)).norm()
    assert float(moved.detach()) <= 2 * BOUND * (1 + 1e-3)


def test_the_guarantee_is_for_owners_and_names_the_cap():
    private = {"sample_rate": 0.5, "steps": 3, "noise_multiplier": 1.0}
    found = trained(defence(**private), population())[1].guarantee
    assert isinstance(found, Guarantee)
    assert found.unit == "owner, at most 20 records each"
    assert "unit: owner, at most 20 records each" in found.statement
    alone = trained(defence(**private), population(each=1))[1].guarantee
    assert found.epsilon == alone.epsilon  # one owner is one unit, however many records they have


def test_record_level_says_that_it_protects_records():
    private = {"sample_rate": 0.5, "steps": 3, "noise_multiplier": 1.0, "level": "example"}
    assert trained(defence(**private), population())[1].guarantee.unit == "example"


def test_owners_of_several_records_need_a_cap():
    with pytest.raises(UsageError, match="public cap on the records of one owner"):
        trained(defence(max_records_per_unit=1), population())
