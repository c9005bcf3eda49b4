"""What every objective promises, found by discovery: whose loss depends on whom, in which epoch, and in a stack."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import sfumato.defences
from sfumato.models.residual_net import ResidualNet
from sfumato.registry import discover
from sfumato.training.composition import composed_objective
from sfumato.training.defence import Batch, Defence, chain
from sfumato.training.draws import Draws
from sfumato.training.losses import task_loss
from sfumato.training.seen import Seen, Tally

DEFENCES = discover(sfumato.defences, Defence)
EPOCHS = range(4)
MODELS, SIZE, CLASSES, FEATURES = 3, 6, 4, 5
HEADS = {"multiclass": CLASSES, "binary": 1}
# Switches that decide whether examples are coupled, beside the examples that methods give of themselves.
SWITCHED = {
    "crl with thresholds of examples": ("crl", {"threshold": "example"}),
    "crl, examples, flattening always": ("crl", {"threshold": "example", "alpha": 50.0, "alpha_centre": 50.0}),
    "crl, flattening always": ("crl", {"alpha": 50.0, "alpha_centre": 50.0}),
    "relaxloss with thresholds of examples": ("relaxloss", {"threshold": "example"}),
    "relaxloss, simplified": ("relaxloss", {"flattening": "simplified", "alpha": 50.0}),
    "bido with coco": ("bido", {"measure": "coco"}),
    "negative-label-smoothing, constant": ("negative-label-smoothing", {"schedule": "constant"}),
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> None:
    """Where examples look for their files."""
    monkeypatch.chdir(tmp_path)
    save_file(ResidualNet(width=8, blocks=1).build((6,), 3).state_dict(), tmp_path / "weights.safetensors")


@pytest.fixture(params=[*DEFENCES, *SWITCHED])
def defence(request, files) -> Defence:
    if request.param in DEFENCES:
        return DEFENCES[request.param].example()
    name, fields = SWITCHED[request.param]
    return replace(DEFENCES[name].example(), **fields)


def extras_for(defence: Defence, classes: int) -> dict[str, torch.nn.Module]:
    found = {}
    for part in chain(defence):
        torch.manual_seed(3)
        extra = part.extra(FEATURES, classes)
        found |= {} if extra is None else {part.name: extra.module.double()}
    return found


def seen_by(defence: Defence, epoch: int, head: str = "multiclass", models: int = 1) -> Seen:
    generator, rows, classes = torch.Generator().manual_seed(1), models * SIZE, max(HEADS[head], 2)
    outputs = torch.randn(rows, HEADS[head], dtype=torch.float64, generator=generator)
    outputs *= torch.arange(1.0, models + 1).repeat_interleave(SIZE)[:, None]  # models of unlike confidence
    features = torch.randn(rows, FEATURES, dtype=torch.float64, generator=generator)
    targets = torch.eye(classes, dtype=torch.float64)[torch.arange(rows) % classes]
    told = {f"{p.name}/layer": torch.randn(rows, 6, dtype=torch.float64, generator=generator) for p in chain(defence)}
    inputs = torch.rand(rows, 3, dtype=torch.float64, generator=generator)
    extras = extras_for(defence, classes)
    return Seen(outputs, targets, features, extras, epoch, len(EPOCHS), models, Tally(models), inputs, told)


def rows_of(defence: Defence, seen: Seen, head: str = "multiclass") -> torch.Tensor:
    return composed_objective(defence, task_loss(head))(seen)


def others_changed(seen: Seen) -> Seen:
    """Row 2 with another answer, other features and another hidden state, row 4 with another label."""
    outputs, targets, features = seen.outputs.clone(), seen.targets.clone(), seen.features.clone()
    heard = {name: value.clone() for name, value in seen.heard.items()}
    for value in heard.values():
        value[2] += 1
    outputs[2] += torch.arange(1, 1 + outputs.shape[1])
    features[2] -= 1
    targets[4] = targets[4].roll(1)
    return replace(seen, outputs=outputs, targets=targets, features=features, heard=heard)


def same(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.isclose(first, second, rtol=1e-12, atol=1e-14)


def changes(defence: Defence, head: str) -> torch.Tensor:
    """bool [epochs, rows]: whether the objective's row changed."""
    found = []
    for epoch in EPOCHS:
        seen = seen_by(defence, epoch, head)
        found.append(~same(rows_of(defence, seen, head), rows_of(defence, others_changed(seen), head)))
    return torch.stack(found)


def transform_mixes(defence: Defence) -> bool:
    """Whether another record of the batch changes what becomes of a record."""
    generator = torch.Generator().manual_seed(0)
    batch = Batch(torch.rand(SIZE, 2, 8, 8, dtype=torch.float64, generator=generator), torch.eye(SIZE).double())
    changed = Batch(batch.x.clone(), batch.targets)
    changed.x[2] += 1
    mixed = [batch, changed]
    for depth, part in enumerate(chain(defence)):
        mixed = [part.transform(one, Draws((5,), ("step", depth))) for one in mixed]
    moved = (mixed[0].x != mixed[1].x).flatten(1).any(dim=1)
    return bool(moved[[0, 1, 3, 4, 5]].any())


def has_course(defence: Defence) -> bool:
    return any(type(part).course is not Defence.course for part in chain(defence))


def couples(defence: Defence) -> bool:
    return any(part.couples for part in chain(defence))


@pytest.mark.parametrize("head", HEADS)
def test_an_example_decides_on_the_loss_of_others_only_where_the_defence_says_so(defence, head):
    """What the defence says may also concern its batches or its course; those it must then have."""
    moved = changes(defence, head)
    coupled = bool(moved[:, [0, 1, 3, 5]].any())
    assert moved[:, [2, 4]].any(dim=0).all()  # or the test could see nothing
    if couples(defence):
        assert coupled or transform_mixes(defence) or has_course(defence)
    else:
        assert not coupled
        assert not transform_mixes(defence)


@pytest.mark.parametrize("head", HEADS)
def test_a_model_of_a_stack_has_the_objective_that_it_has_alone(defence, head):
    for epoch in EPOCHS:
        whole = seen_by(defence, epoch, head, MODELS)
        together = rows_of(defence, whole, head)
        assert together.shape == (MODELS * SIZE,)
        for model in range(MODELS):
            own, tally = slice(model * SIZE, (model + 1) * SIZE), Tally(1)
            parts = {"outputs": whole.outputs[own], "targets": whole.targets[own], "features": whole.features[own]}
            parts |= {"inputs": whole.inputs[own], "heard": {name: value[own] for name, value in whole.heard.items()}}
            alone = rows_of(defence, replace(whole, **parts, models=1, tally=tally), head)
            torch.testing.assert_close(together[own], alone, rtol=1e-12, atol=1e-14)
            assert whole.tally.of(model) == pytest.approx(tally.of(0))


@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_finite_in_every_epoch(defence, head):
    for epoch in EPOCHS:
        seen = seen_by(defence, epoch, head)
        seen.outputs.requires_grad_()
        seen.features.requires_grad_()
        for value in seen.heard.values():
            value.requires_grad_()
        rows_of(defence, seen, head).mean().backward()
        assert torch.isfinite(seen.outputs.grad).all()
        assert seen.outputs.grad.abs().sum() > 0
        of_others = [p.grad for module in seen.extras.values() for p in module.parameters()]
        reached = [seen.features.grad] if any(part.needs_features for part in chain(defence)) else []
        heard = [value.grad for value in seen.heard.values() if value.grad is not None]
        for gradient in (*reached, *of_others, *heard):
            assert torch.isfinite(gradient).all()
            assert gradient.abs().sum() > 0


def test_what_is_counted_are_the_branches_that_it_names(defence):
    tally = Tally(1)
    for epoch in EPOCHS:
        rows_of(defence, replace(seen_by(defence, epoch), tally=tally))
    named = {branch for part in chain(defence) for branch in part.branches}
    assert set(tally.of(0)) <= named
    assert set(tally.of(0)) == named or has_course(defence)
    assert all(0 <= steps <= len(EPOCHS) for steps in tally.of(0).values())
