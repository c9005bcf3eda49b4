"""DP-SGD on ODE and SDE networks: clipped sums over all steps are those of a loop over single records.

And what the networks' own numbers have to do with the guarantee: nothing.
"""

import importlib.util
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError
from sfumato.models.ode_net import ODENet
from sfumato.models.residual_net import ResidualNet
from sfumato.models.sde_net import SDENet
from sfumato.private.costs import Chooser
from sfumato.private.doctor import examine
from sfumato.private.plan import Plan
from sfumato.private.session import make
from sfumato.sde.block import Schedule, SDEBlock
from sfumato.sde.diffusions.choice import diffusions
from sfumato.sde.streams import StreamLayer, set_noise, set_progress
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

IMAGE, TABLE, CLASSES, STEPS = (1, 8, 8), (4,), 3, 3
needs_opacus = pytest.mark.skipif(importlib.util.find_spec("opacus") is None, reason="opacus is not installed")


class Given(nn.Module):
    """A network whose block takes normals [rows, steps, *state] beside the records, so that each row keeps its own."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, batch):
        x, noise = batch
        for layer in self.net:
            x = layer(x, noise.transpose(0, 1)) if isinstance(layer, SDEBlock) else layer(x)
        return x


def given(shape, rows=5, family=SDENet, **fields):
    """A float64 network on small records, with records, normals and labels."""
    torch.manual_seed(3)
    sizes = {"channels": 4, "width": 5, "steps": STEPS}
    if family is SDENet:
        sizes["sigma"] = 0.7
    net = family(**(sizes | fields)).build(shape, CLASSES).double()
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    state = (4, 4, 4) if len(shape) == 3 else (5,)
    x, noise = torch.randn(rows, *shape, dtype=torch.float64), torch.randn(rows, STEPS, *state, dtype=torch.float64)
    return Given(net), (x, noise), torch.arange(rows) % CLASSES


@pytest.mark.parametrize("shape", [IMAGE, TABLE], ids=["image", "table"])
@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("diffusion", diffusions())
def test_clipped_sums_are_those_of_single_records(diffusion, checkpointed, shape, private_comparison):
    net, batch, labels = given(shape, diffusion=diffusion, checkpointed=checkpointed)
    found = private_comparison.compare(net, batch, labels)
    found.check()
    drift = next(value for name, value in found.sums.items() if "drift" in name and name.endswith("weight"))
    assert bool(drift.any())


@pytest.mark.parametrize("shape", [IMAGE, TABLE], ids=["image", "table"])
@pytest.mark.parametrize("integrator", ["milstein", "stochastic-heun"])
def test_other_integrators_evaluate_the_drift_more_often_and_count_each_use(integrator, shape, private_comparison):
    net, batch, labels = given(shape, diffusion="multiplicative", integrator=integrator)
    private_comparison.compare(net, batch, labels).check()


@pytest.mark.parametrize("shape", [IMAGE, TABLE], ids=["image", "table"])
@pytest.mark.parametrize("integrator", ["euler", "midpoint", "rk4"])
def test_without_noise_too(integrator, shape, private_comparison):
    net, (x, _), labels = given(shape, family=ODENet, integrator=integrator)
    private_comparison.compare(net.net, x, labels).check()


@pytest.mark.parametrize("way", ["gram", "product", "kernel", "each"])
@pytest.mark.parametrize("shape", [IMAGE, TABLE], ids=["image", "table"])
def test_every_way_to_a_norm_gives_the_same(way, shape, private_comparison):
    private_comparison.compare(*given(shape), way=way).check()


class PerLayer(Chooser):
    """Gram matrices for the stem and the head, a gradient for each record within the block."""

    def __init__(self, within):
        super().__init__()
        self.within, self.seen = within, set()

    def way(self, term, grad, units, *, dense=False):
        ways = [w for w in term.ways(grad, units) if not (dense and w.startswith("gram"))] or ["product"]
        wanted = [w for w in ways if w.startswith("gram") != (tuple(term.shape) in self.within)] or ways
        self.seen.add((tuple(term.shape) in self.within, wanted[0].startswith("gram")))
        return wanted[0]


@pytest.mark.parametrize("shape", [IMAGE, TABLE], ids=["image", "table"])
def test_the_way_is_chosen_for_each_layer(shape, private_comparison):
    net, batch, labels = given(shape)
    block = next(layer for layer in net.modules() if isinstance(layer, SDEBlock))
    engine = private_comparison.engine_for(net, batch, labels)
    engine.chooser = PerLayer({tuple(p.shape) for p in block.parameters() if p.dim() > 1})
    sums, ones = {}, torch.ones(len(labels), dtype=torch.float64)
    engine.add(lambda: private_comparison.loss_of(net(batch), labels), ones, len(labels), private_comparison.clip, sums)
    _, expected = private_comparison.looped(net, batch, labels, len(labels), ones)
    for name, value in expected.items():
        torch.testing.assert_close(sums[name], value, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    assert {(True, False), (False, True)} <= engine.chooser.seen


@needs_opacus
@pytest.mark.parametrize("diffusion", ["additive", "multiplicative"])
@pytest.mark.parametrize("shape", [IMAGE, TABLE], ids=["image", "table"])
def test_hooks_of_opacus_agree(shape, diffusion, private_comparison):
    from opacus import GradSampleModule

    net, batch, labels = given(shape, diffusion=diffusion)
    found = private_comparison.compare(net, batch, labels)
    hooked = GradSampleModule(net, loss_reduction="sum")
    F.cross_entropy(hooked(batch), labels, reduction="sum").backward()
    samples = {n.removeprefix("_module."): p.grad_sample for n, p in hooked.named_parameters()}
    squared = sum(sample.flatten(1).square().sum(1) for sample in samples.values())
    factors = (private_comparison.MAX_GRAD_NORM / squared.sqrt()).clamp(max=1)
    torch.testing.assert_close(found.squared, squared, rtol=1e-10, atol=1e-12)
    for name, sample in samples.items():
        torch.testing.assert_close(
            found.sums[name], torch.einsum("u,u...->...", factors, sample), rtol=1e-9, atol=1e-11
        )


RECORDS, BATCH = 12, 4


def population():
    rng = np.random.default_rng(0)
    return Population(rng.normal(size=(RECORDS, 6)).astype(np.float32), "example", labels=np.arange(RECORDS) % 2)


def trained(model, defence, *, release=False, **plan):
    task = Task(model=model, epochs=1, batch_size=4, optimizer=Optimizer(lr=0.1))
    return Recipe(task, defence).fit(population(), [Assignment(np.arange(RECORDS), 1)], LoopOptions(release=release))[0]


PRIVATE = DPSGD(
    sample_rate=0.5, expected_batch_size=6, steps=4, delta=1e-3, adjacency="ADD_OR_REMOVE_ONE", noise_multiplier=1.0
)
SAME_GUARANTEE = {
    "ordinary equation": ODENet(width=5),
    "no noise": SDENet(width=5, sigma=0.0),
    "much noise": SDENet(width=5, sigma=50.0),
    "longer": SDENet(width=5, horizon=6.0, steps=12),
    "silent answers": SDENet(width=5, noise_at_test=False),
}


@pytest.mark.parametrize("name", SAME_GUARANTEE)
def test_the_guarantee_is_that_of_the_plan_and_knows_nothing_of_the_equation(name):
    expected = trained(ResidualNet(width=5, blocks=1), PRIVATE).guarantee
    found = trained(SAME_GUARANTEE[name], PRIVATE).guarantee
    assert isinstance(found, Guarantee)
    assert found == expected


def test_without_a_mechanism_the_noise_earns_no_guarantee():
    found = trained(SDENet(width=5, sigma=50.0), Undefended()).guarantee
    assert isinstance(found, NoGuarantee)
    assert found.statement.startswith("none, because of ordinary training")


def test_a_step_size_for_the_whole_batch_is_refused():
    with pytest.raises(NotPrivateError, match="one step size serves the whole batch"):
        trained(ODENet(width=5, integrator="adaptive"), PRIVATE)


@pytest.mark.parametrize("shape", [IMAGE, TABLE], ids=["image", "table"])
@pytest.mark.parametrize("family", [ResidualNet, ODENet, SDENet])
def test_the_doctor_has_nothing_to_say(family, shape):
    net = family(channels=4, width=5).build(shape, CLASSES)
    found = examine(net, (torch.randn(6, *shape), torch.arange(6) % CLASSES), losses)
    assert [str(finding) for finding in found.findings] == []
    assert not found.refused


def losses(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none")


class Switching(nn.Module):
    """Takes one step at first and more later; batch, channels and positions are equally many, so sizes tell nothing."""

    def __init__(self, steps):
        super().__init__()
        torch.manual_seed(1)
        self.block = SDENet(channels=BATCH, width=BATCH, steps=steps, sigma=0.5).body((BATCH,))[0]
        self.block.schedule = Schedule(start=0.5)
        self.head = nn.Linear(BATCH, CLASSES)

    def forward(self, x):
        return self.head(self.block(x))


def schedule_session(method, steps=2):
    plan = Plan(
        sample_rate=1.0,
        steps=4,
        expected_batch_size=BATCH,
        noise_multiplier=1e-9,
        delta=1e-3,
        adjacency="ADD_OR_REMOVE_ONE",
    )
    random = torch.Generator().manual_seed(3)
    x = torch.randn(BATCH, BATCH, generator=random, dtype=torch.float64)
    net = Switching(steps).double()

    def with_streams(model, x, y):
        set_noise(model, Draws((5,)), "common")  # so that a record alone sees what it sees in a batch
        return losses(model, x, y)

    y = torch.arange(BATCH) % CLASSES
    return make(net, plan=plan, data=(x, y), loss=with_streams, audit_seed=1, method=method, chooser=Chooser())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_schedule_of_steps_is_followed_in_private_training(steps):
    """Learned on one step, the engine met uses that it had not seen, and guessed, or gave up where sizes were equal."""
    one_pass, loop = schedule_session("capture", steps), schedule_session("loop", steps)
    for session in (one_pass, loop):
        for step in session.steps():
            set_progress(session.model, step / session.plan.steps)
            session.backward(np.arange(BATCH))
            with torch.no_grad():
                for parameter in session.model.parameters():
                    parameter -= 0.5 * parameter.grad
    assert one_pass.method == "capture"
    for (name, found), expected in zip(one_pass.model.named_parameters(), loop.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture
def streams(monkeypatch):
    """The streams that each pass of a training gave to its layers."""
    seen = []
    forward = SDEBlock.forward

    def noted(self, h, noise=None):
        if isinstance(self, StreamLayer) and self.draws is not None and "private" in self.draws.path:
            seen.append(self.draws)
        return forward(self, h, noise)

    monkeypatch.setattr(SDEBlock, "forward", noted)
    return seen


def test_audit_models_draw_by_seed_and_a_release_by_a_secret(streams):
    trained(SDENet(width=5), PRIVATE)
    assert {draws.seeds for draws in streams} == {(1,)}
    streams.clear()
    trained(SDENet(width=5), PRIVATE, release=True)
    assert len({draws.seeds for draws in streams}) == 1
    assert streams[0].seeds[0] > 2**32
    first = streams[0].seeds
    streams.clear()
    trained(SDENet(width=5), PRIVATE, release=True)
    assert streams[0].seeds != first


def test_no_two_places_of_a_step_share_their_noise(streams, monkeypatch):
    """With the noise of a row shared between physical batches, one record more would change who shares with whom."""
    monkeypatch.setattr("sfumato.training.private_loop.make", lambda *a, **k: make(*a, **k, physical_batch_size=2))
    trained(SDENet(width=5), PRIVATE)
    assert len({draws.path for draws in streams}) > 2 * PRIVATE.steps
    streams.clear()
    monkeypatch.setattr("sfumato.training.private_loop.make", lambda *a, **k: make(*a, **k, method="loop"))
    trained(SDENet(width=5), PRIVATE)
    assert len({draws.path for draws in streams}) == len(streams)
    assert math.isclose(len(streams) / PRIVATE.steps, PRIVATE.expected_batch_size, rel_tol=0.7)


class Stopped(Exception):
    pass


def test_a_private_training_that_was_interrupted_draws_what_it_would_have_drawn(tmp_path):
    """After an interruption the session probes again, before a step that had no probe: names must not count calls."""

    def stop(epoch):
        if epoch.epoch == 2:  # before its own checkpoint, after the first one
            raise Stopped

    def fit(**options):
        task = Task(model=SDENet(width=5, sigma=0.5), epochs=1, batch_size=4, optimizer=Optimizer(lr=0.1))
        work = [Assignment(np.arange(RECORDS), 1)]
        return Recipe(task, PRIVATE).fit(population(), work, LoopOptions(dtype=torch.float64, **options))[0].state

    whole, checkpoint = fit(), Checkpoint(tmp_path / "running.safetensors", "key", every=0)
    with pytest.raises(Stopped):
        fit(checkpoint=checkpoint, on_epoch=stop)
    assert checkpoint.path.exists()
    resumed = fit(checkpoint=checkpoint)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
