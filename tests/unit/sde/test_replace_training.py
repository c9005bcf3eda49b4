"""Networks with swapped blocks in stacks and under per-example clipping: what one model, or one example, gets alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.accounting.adjacency import Adjacency
from sfumato.models.dropout import replace_dropout
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8
from sfumato.models.wide_resnet import WideResNet
from sfumato.private.clipping.choice import clipping_named
from sfumato.private.doctor import examine
from sfumato.private.plan import Plan
from sfumato.private.replacing import fixed, fixed_with_changes
from sfumato.private.session import make
from sfumato.sde.block import Schedule
from sfumato.sde.replace import replace
from sfumato.sde.streams import set_noise, set_progress
from sfumato.training.draws import Draws
from sfumato.training.stacking import build_stack

IMAGE, TABLE = (3, 8, 8), (6,)
FAMILIES = {
    "residual-net": (ResidualNet(channels=4, blocks=2), IMAGE),
    "tables": (ResidualNet(width=8, blocks=2), TABLE),
    "resnet": (ResNet8(width=4, norm="group"), IMAGE),
    "wide": (WideResNet(depth=10, width=1, norm="group", dropout=0.2), IMAGE),
}


class TwoBranches(nn.Module):
    """Both in one forward, which is rewritten."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = x + self.first(x)
        return self.head(torch.tanh(x + self.second(torch.tanh(x))))


def network(name: str, seed: int) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(seed)
    family, shape = FAMILIES.get(name, (None, TABLE))
    model = TwoBranches() if family is None else family.build(shape, 3)
    x = torch.randn(5, *shape, dtype=torch.float64)
    done = replace(model.double(), "all", example=x, steps=2, diffusion="additive", sigma=0.3)
    return replace_dropout(done.model), x


class Again(nn.Module):
    """The same noise for every row and pass, so that rows alone can be compared with rows together."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        set_noise(self.inner, Draws((7,)), "common")
        return self.inner(x)


@pytest.mark.parametrize("name", [*FAMILIES, "two branches"])
def test_a_stack_computes_what_its_networks_compute(name):
    models = [network(name, seed)[0] for seed in (1, 2, 3)]
    x = network(name, 1)[1]
    draws = Draws((11, 12, 13))
    stack = build_stack(models, x, draws)
    for training in (True, False):
        set_noise(stack.module, draws.at("pass"))
        together = stack.module.train(training)(x.repeat(3, *[1] * (x.dim() - 1))).chunk(3)
        for model, seed, answer in zip(models, draws.seeds, together, strict=True):
            set_noise(model, Draws((seed,)).at("pass"))
            assert torch.allclose(model.train(training)(x), answer, atol=1e-10)
    assert set(stack.state(0)) == set(models[0].state_dict())


@pytest.mark.parametrize("way", [None, "gram", "product"])
@pytest.mark.parametrize("name", ["residual-net", "tables", "resnet", "two branches"])
def test_clipped_sums_are_those_of_a_loop_over_single_examples(name, way, private_comparison):
    model, x = network(name, 1)
    found = private_comparison.compare(Again(model), x, torch.arange(5) % 3, way=way)
    found.check(1e-8)
    assert float(found.squared.sum()) > 0


def private_weights(method: str) -> torch.Tensor:
    """After private steps, of which the second half takes more solver steps than the first."""
    torch.manual_seed(0)
    schedule = Schedule(start=0.5)
    blocks = replace(TwoBranches().double(), "all", steps=3, diffusion="additive", sigma=0.3, schedule=schedule).model
    model, x, y = Again(blocks), torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 3
    plan = Plan(
        sample_rate=0.3, steps=6, delta=1e-3, expected_batch_size=6, noise_multiplier=1.0,
        adjacency=Adjacency.named("ADD_OR_REMOVE_ONE"), clipping=clipping_named("flat", 1.0),
    )  # fmt: skip
    session = make(model, plan=plan, data=(x, y), loss=losses, audit_seed=3, method=method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in session.steps():
        set_progress(model, step / plan.steps)
        session.backward()
        optimizer.step()
    assert session.method == method
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def losses(model, x, y):
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def test_more_steps_under_way_are_followed_in_private_training():
    torch.testing.assert_close(private_weights("capture"), private_weights("loop"), rtol=1e-7, atol=1e-7)


def test_more_steps_move_the_gradient():
    """Else the comparison above could not tell a step that was left out."""
    model, x = network("tables", 1)
    norms = []
    for steps in (1, 2):
        for block in (model[2], model[3]):
            block.grid = type(block.grid)(horizon=1.0, steps=steps)
        model.zero_grad()
        Again(model)(x).square().sum().backward()
        norms.append(float(model[2].drift.branch[1].weight.grad.square().sum()))
    assert abs(norms[0] / norms[1] - 1) > 1e-3


def test_the_doctor_has_nothing_against_it():
    model, x = network("resnet", 1)
    labels = torch.arange(5) % 3
    diagnosis = examine(Again(model), [x, labels], losses)
    assert not diagnosis.refused
    assert diagnosis.parameters


def test_a_repaired_copy_is_a_copy():
    torch.manual_seed(0)
    model = replace(ResNet8(width=4).build(IMAGE, 3), "all", convert_norm=False).model
    copied = fixed(model)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in copied.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    with torch.no_grad():
        copied[3].drift.residual[0].weight.zero_()
    assert bool(model[3].drift.residual[0].weight.any())


def test_a_step_that_is_run_again_backwards_gives_the_same_gradient():
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(1)
        model = ResidualNet(width=8, blocks=2).build(TABLE, 3)
        done = replace(model, "all", steps=3, diffusion="additive", checkpointed=checkpointed).model.train()
        set_progress(done, 0.5)
        set_noise(done, Draws((1,)))
        done(torch.ones(4, *TABLE)).square().sum().backward()
        found.append(torch.cat([p.grad.reshape(-1) for p in done.parameters()]))
    assert torch.allclose(*found, atol=1e-6)


def test_a_layer_that_stands_in_two_places_is_repaired_in_both():
    shared = nn.BatchNorm2d(4)
    copied, changes = fixed_with_changes(nn.Sequential(shared, nn.ReLU(), shared))
    assert isinstance(copied[0], nn.GroupNorm)
    assert copied[0] is copied[2]
    assert len(changes) == 1
