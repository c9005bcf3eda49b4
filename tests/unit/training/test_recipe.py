from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.canonical import content_hash
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.sde.block import SDEBlock
from sfumato.sde.diffusions.additive import Additive
from sfumato.sde.drifts.dense import DenseDrift
from sfumato.sde.integrate import Grid
from sfumato.sde.integrators.euler_maruyama import EulerMaruyama
from sfumato.training.defence import Defence
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import FunctionRecipe, Recipe, recipe_from_file
from sfumato.training.task import Task
from sfumato.training.trained import Trained


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Population(ArrayRecords(rng.normal(size=(20, 3)).astype(np.float32)), "example", labels=np.arange(20) % 2)


def constant(x, y, seed, value=0.0):
    """Answers the same to everything."""
    return lambda records: torch.full((len(records), 2), value)


def random_linear(x, y, seed):
    return nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))


def refuses(x, y, seed):
    return 3


def fit(recipe, data, seed=4):
    return recipe.fit(data, [Assignment(np.arange(10), seed)], LoopOptions())[0]


@pytest.mark.parametrize("head", ["multiclass", "binary"])
def test_a_predictor_has_one_column_per_class_and_is_in_eval_mode(data, head):
    recipe = Recipe(Task(model=MLP(dropout=0.5), epochs=1, head=head, standardise=True), Undefended())
    trained = fit(recipe, data)
    predict = recipe.predictor(trained, data)
    x = data.tensor(np.arange(20))
    assert predict(x).shape == (20, 2)
    assert torch.equal(predict(x), predict(x))
    assert not any(part.training for part in predict.module.modules())
    if head == "binary":
        assert torch.equal(predict(x)[:, 0], torch.zeros(20))


@dataclass(frozen=True, kw_only=True)
class NoisyState(Defence):
    """Puts a stochastic layer in front of the network."""

    sigma: float = 0.3
    name = "noisy-state"

    def prepare(self, model):
        drift = DenseDrift(3, 3)
        diffusion = Additive(sigma=self.sigma)
        return nn.Sequential(SDEBlock(drift, Grid(steps=2), EulerMaruyama(), diffusion), model)


@dataclass(frozen=True, kw_only=True)
class RoundedAnswers(Defence):
    """A guard."""

    name = "rounded"

    def guard(self, logits, draws, behind):
        return logits + draws.gaussian("noise", logits.shape[0], logits.shape[1])[0]


def test_a_network_with_a_stochastic_layer_answers_at_random_and_one_with_dropout_does_not(data):
    task = Task(model=MLP(dropout=0.5))
    assert not Recipe(task, Undefended()).answers_at_random(data)
    assert not Recipe(task, NoisyState(sigma=0.0)).answers_at_random(data)
    assert Recipe(task, NoisyState()).answers_at_random(data)
    assert Recipe(task, LabelSmoothing(inner=NoisyState())).answers_at_random(data)


def test_a_guard_makes_answers_random_whatever_stands_behind_it(data):
    guarded = LabelSmoothing(inner=RoundedAnswers())
    assert Recipe(Task(model=MLP()), guarded).answers_at_random(data)
    assert FunctionRecipe(constant, "constant", guarded).answers_at_random(data)
    assert not FunctionRecipe(constant, "constant", Undefended()).answers_at_random(data)


def test_a_recipe_is_named_after_its_defence_and_specified_by_task_and_defence():
    task = Task(model=MLP())
    assert Recipe(task, LabelSmoothing()).name == "label-smoothing"
    assert content_hash(Recipe(task, LabelSmoothing()).spec()) != content_hash(Recipe(task, Undefended()).spec())
    assert content_hash(Recipe(task, Undefended(), "a").spec()) == content_hash(Recipe(task, Undefended(), "b").spec())


def test_dropped_weights_cannot_answer(data):
    recipe = Recipe(Task(model=MLP(), epochs=1), Undefended())
    trained = fit(recipe, data)
    with pytest.raises(UsageError, match="stored weights"):
        recipe.network(Trained(None, trained.history, 1), data)


def test_a_users_function_is_repeatable_and_leaves_torchs_generator_alone(data):
    recipe = Recipe.from_function(random_linear, name="own", defence=Undefended())
    before = torch.random.get_rng_state()
    x = data.tensor(np.arange(20))
    one, two, other = (recipe.predictor(fit(recipe, data, seed), data)(x) for seed in (4, 4, 5))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not recipe.stackable


def test_a_users_function_sees_its_rows_only_and_the_read_is_recorded(data):
    seen = []

    def spy(x, y, seed):
        seen.append((x, y))
        return lambda records: torch.zeros(len(records), 2)

    trained = fit(FunctionRecipe(spy, "spy", Undefended()), data)
    np.testing.assert_array_equal(seen[0][0], data.records.array[:10])
    np.testing.assert_array_equal(seen[0][1], data.labels[:10])
    assert "spy" in trained.guarantee_statement


def test_a_function_that_returns_no_model_is_refused(data):
    with pytest.raises(UsageError, match="a module or a function"):
        fit(FunctionRecipe(refuses, "no model", Undefended()), data)


def test_bound_arguments_are_part_of_the_specification():
    specs = [FunctionRecipe(partial(constant, value=v), "own", Undefended()).spec() for v in (0.0, 1.0)]
    assert content_hash(specs[0]) != content_hash(specs[1])


def test_a_function_with_captured_variables_cannot_be_named():
    width = 3

    def captures(x, y, seed):
        return nn.Linear(width, 2)

    with pytest.raises(UsageError, match="captured"):
        FunctionRecipe(captures, "own", Undefended()).spec()


def test_a_function_in_a_file_is_named_by_content_and_not_by_place(data, tmp_path):
    specs = []
    for folder, value in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "loop.py"
        path.write_text(f"import torch\ndef fit(x, y, seed): return lambda r: torch.full((len(r), 2), {value}.0)\n")
        recipe = recipe_from_file(path, "fit", Undefended())
        specs.append(content_hash(recipe.spec()))
        assert float(recipe.predictor(fit(recipe, data), data)(torch.zeros(1, 3))[0, 0]) == value
    assert specs[0] == specs[1] != specs[2]
    with pytest.raises(UsageError, match="none"):
        fit(recipe_from_file(path, "missing", Undefended()), data)
