"""What every defence promises, found by discovery."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import sfumato.defences
from sfumato.canonical import canonical_json
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.models.mlp import MLP
from sfumato.models.residual_net import ResidualNet
from sfumato.registry import discover
from sfumato.training.composition import fitted_guards
from sfumato.training.defence import Batch, Behind, Defence, chain, configured
from sfumato.training.draws import Draws
from sfumato.training.losses import task_loss
from sfumato.training.preparation import Assignment, LoopOptions, network_of
from sfumato.training.task import Task
from sfumato.training.train import train

DEFENCES = discover(sfumato.defences, Defence)
SEEDS, SIZE, CLASSES = (21, 22, 23), 5, 4
HEADS = {"multiclass": CLASSES, "binary": 1}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> None:
    """Where examples look for their files: weights, of the network of `test_the_prepared_network_...`."""
    monkeypatch.chdir(tmp_path)
    save_file(ResidualNet(width=8, blocks=1).build((6,), 3).state_dict(), tmp_path / "weights.safetensors")


@pytest.fixture(params=DEFENCES)
def defence(request, files) -> Defence:
    return DEFENCES[request.param].example()


def example_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(len(SEEDS) * SIZE, 2, 8, 8, dtype=torch.float64, generator=generator)
    targets = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(len(x)) % CLASSES]
    return Batch(x, targets)


def outputs_and_targets(head: str) -> tuple[torch.Tensor, torch.Tensor]:
    outputs = torch.randn(6, HEADS[head], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    classes = max(HEADS[head], 2)
    return outputs, torch.eye(classes, dtype=torch.float64)[torch.arange(6) % classes]


def composed_loss(defence: Defence, base):
    """The per-example losses of a chain, each around the next."""
    loss = base
    for part in reversed(chain(defence)):
        loss = partial(part.loss, inner=loss)
    return loss


def block(model: int) -> slice:
    return slice(model * SIZE, model * SIZE + SIZE)


def test_the_defences_of_the_first_release_are_found():
    first = {
        "undefended",
        "label-smoothing",
        "confidence-penalty",
        "early-stopping",
        "weight-decay",
        "dropout",
        "mixup",
        "dpsgd",
        "pretrained",
    }
    assert set(DEFENCES) >= first


def test_it_is_a_frozen_value(defence):
    assert dataclasses.is_dataclass(defence)
    assert type(defence).example() == defence
    with pytest.raises(dataclasses.FrozenInstanceError):
        defence.inner = None


def test_it_can_be_written_down_completely(defence):
    written = json.loads(canonical_json(defence))
    fields = {field.name: written[field.name] for field in dataclasses.fields(defence) if field.name != "inner"}
    assert written["class"].endswith(type(defence).__qualname__)
    assert canonical_json(type(defence)(**fields)) == canonical_json(defence)
    assert canonical_json(dataclasses.replace(defence, inner=DEFENCES["mixup"].example())) != canonical_json(defence)


def test_it_says_what_it_is(defence):
    assert defence.family in ("empirical", "formal", "none")
    assert defence.summary.endswith(".")
    if defence.family != "none":
        assert defence.bibtex.startswith("@")
        assert f"{{{defence.reference}," in defence.bibtex


def test_only_a_formal_defence_has_anything_that_could_yield_an_epsilon(defence):
    words = ("epsilon", "delta", "guarantee", "accountant")
    suspicious = [name for name in dir(defence) if any(word in name.lower() for word in words)]
    assert defence.family == "formal" or suspicious == []


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_of_an_example_depends_on_that_example_alone(defence, head):
    outputs, targets = outputs_and_targets(head)
    loss = composed_loss(defence, task_loss(head))
    before = loss(outputs, targets)
    assert before.shape == (6,)
    changed_outputs, changed_targets = outputs.clone(), targets.clone()
    changed_outputs[2] += torch.arange(1, 1 + outputs.shape[1])
    changed_targets[4] = changed_targets[4].roll(1)
    after = loss(changed_outputs, changed_targets)
    assert (before != after).tolist() == [False, False, True, False, True, False]


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_has_a_finite_gradient(defence, head):
    outputs, targets = outputs_and_targets(head)
    outputs.requires_grad_(True)
    composed_loss(defence, task_loss(head))(outputs, targets).sum().backward()
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad.abs().sum() > 0


def test_the_batch_of_one_model_does_not_touch_another_ones(defence):
    batch, draws = example_batch(), Draws(SEEDS, ("step", 1))
    changed = Batch(batch.x.clone(), batch.targets.clone())
    changed.x[block(1)] += 1
    changed.targets[block(1)] = changed.targets[block(1)].roll(1, dims=1)
    before, after = defence.transform(batch, draws), defence.transform(changed, draws)
    for part in range(2):
        for model in (0, 2):
            assert torch.equal(before[part][block(model)], after[part][block(model)])
        assert not torch.equal(before[part][block(1)], after[part][block(1)])


def test_each_model_gets_the_batch_it_gets_alone(defence):
    batch, path = example_batch(), ("step", 1)
    together = defence.transform(batch, Draws(SEEDS, path))
    for model, seed in enumerate(SEEDS):
        own = Batch(batch.x[block(model)], batch.targets[block(model)])
        alone = defence.transform(own, Draws((seed,), path))
        assert torch.allclose(together.x[block(model)], alone.x, rtol=0, atol=1e-15)
        assert torch.allclose(together.targets[block(model)], alone.targets, rtol=0, atol=1e-15)


def test_transformed_labels_remain_distributions(defence):
    out = defence.transform(example_batch(), Draws(SEEDS))
    assert torch.allclose(out.targets.sum(1), torch.ones(len(out.targets), dtype=torch.float64))
    assert bool((out.targets >= 0).all())


def test_draws_alone_decide_the_batch(defence):
    batch = example_batch()
    first = defence.transform(batch, Draws(SEEDS, ("step", 1)))
    torch.manual_seed(99)
    again = defence.transform(batch, Draws(SEEDS, ("step", 1)))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.targets, again.targets)


def test_the_input_batch_is_not_changed(defence):
    batch = example_batch()
    x, targets = batch.x.clone(), batch.targets.clone()
    defence.transform(batch, Draws(SEEDS))
    assert torch.equal(batch.x, x)
    assert torch.equal(batch.targets, targets)


def guard_state(defence: Defence) -> dict[str, torch.Tensor]:
    """What its guard keeps of a short training on such records, if it is fitted."""
    if not fitted_guards(defence):
        return {}
    records = ArrayRecords(np.random.default_rng(0).random((30, 6), np.float32))
    population = Population(records, "example", labels=np.arange(30) % 3)
    work = [Assignment(np.arange(30), 1)]
    trained = train(Task(model=MLP(hidden=(4,)), epochs=1), defence, population, work, LoopOptions())[0]
    return {name.removeprefix(f"{defence.name}/"): value for name, value in trained.guards.items()}


def test_the_prepared_network_and_the_guarded_answers_keep_their_shape(defence):
    model = defence.prepare(ResidualNet(width=8, blocks=1).build((6,), 3)).eval()
    assert isinstance(model, nn.Module)
    logits = model(torch.rand(4, 6))
    assert logits.shape == (4, 3)
    answers = defence.guard(logits, Draws((1,)), Behind(model, (6,), guard_state(defence)))
    assert answers.shape == (4, 3)
    assert torch.equal(answers.argmax(1), logits.argmax(1)) or not defence.keeps_labels


def test_the_network_is_decided_by_the_seed_alone(defence):
    task = configured(defence, Task(model=ResidualNet(width=8, blocks=1)))
    states = []
    for elsewhere in (1, 2):
        torch.manual_seed(elsewhere)
        states.append(network_of(task, defence, (6,), 3, seed=7).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_configured_task_keeps_the_network_and_the_head(defence):
    task = Task(model=MLP(), head="binary")
    after = configured(defence, task)
    assert (after.model, after.head) == (task.model, "binary")


@pytest.mark.parametrize("other", DEFENCES)
def test_it_wraps_any_other_part_by_part(defence, other):
    inner = DEFENCES[other].example()
    both = dataclasses.replace(defence, inner=inner)
    assert [part.name for part in chain(both)] == [defence.name, other]
    outputs, targets = outputs_and_targets("multiclass")
    base = task_loss("multiclass")
    expected = defence.loss(outputs, targets, lambda o, t: inner.loss(o, t, base))
    assert torch.equal(composed_loss(both, base)(outputs, targets), expected)
