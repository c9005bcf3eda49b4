"""The session against a slow twin: each drawn unit alone, by ordinary autograd, clipped; the noise is subtracted."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato import private
from sfumato.accounting.adjacency import Adjacency
from sfumato.errors import NotCaptured, NotPrivateError, UsageError
from sfumato.private.clipping import AdaptiveQuantile
from sfumato.private.costs import Chooser
from sfumato.private.noise.seeded import SeededNoise
from sfumato.private.plan import Plan
from sfumato.private.session import METHODS, facts_of, make

RECORDS, FEATURES, CLASSES, SEED = 40, 5, 3, 7
MAX_GRAD_NORM = 1.0


def plan(**changes):
    fields = {
        "sample_rate": 0.3,
        "steps": 4,
        "expected_batch_size": 12,
        "noise_multiplier": 1.0,
        "delta": 1e-3,
        "adjacency": Adjacency.ADD_OR_REMOVE_ONE,
    }
    return Plan(**(fields | changes))


def data(records=RECORDS, dtype=torch.float64):
    random = torch.Generator().manual_seed(3)
    x = torch.randn(records, FEATURES, generator=random, dtype=dtype)
    return x, torch.randint(CLASSES, (records,), generator=random)


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES)).to(dtype)


def loss(model, x, y):
    return F.cross_entropy(model(x), y, reduction="none")


def session_of(model=None, **changes):
    given = {"plan": plan(), "data": data(), "loss": loss, "audit_seed": SEED, "chooser": Chooser()} | changes
    return make(network() if model is None else model, **given)


def steps(session, most=None):
    """Train by plain SGD; what was drawn at each step."""
    optimizer, drawn = torch.optim.SGD(session.model.parameters(), lr=0.5), []
    for step in session.steps():
        drawn.append(session._drawn)
        session.backward()
        optimizer.step()
        if most is not None and step + 1 >= most:
            break
    return drawn


def weights(session):
    return torch.cat([p.detach().reshape(-1) for p in session.model.parameters()])


def noiseless(session, step):
    """Gradients of the last step without the noise of the audit seed, times the expected batch size."""
    found, chosen = {}, session.plan
    std = chosen.noise_multiplier * MAX_GRAD_NORM / chosen.expected_batch_size
    for name, parameter in session.model.named_parameters():
        noise = SeededNoise(SEED, "private").at("noise", step, name).fill(torch.empty_like(parameter).contiguous())
        found[name] = (parameter.grad - std * noise) * chosen.expected_batch_size
    return found


def twin(model, units, of=loss):
    """The sum of clipped gradients of units, each a tuple of tensors with its records in front."""
    parameters = dict(model.named_parameters())
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for unit in units:
        found = torch.autograd.grad(of(model, *unit).mean(), list(parameters.values()), allow_unused=True)
        norm = math.sqrt(sum(float(g.square().sum()) for g in found if g is not None))
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None and math.isfinite(norm):
                sums[name] += gradient * min(1.0, MAX_GRAD_NORM / norm)
    return sums


def agree(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [None, 1, 3])
def test_a_step_is_the_twin_and_noise_however_it_is_cut(method, size):
    session, (x, y) = session_of(method=method, physical_batch_size=size), data()
    drawn = session.draw()
    session.backward(drawn)
    assert len(drawn) > 3
    agree(noiseless(session, 0), twin(session.model, [(x[[u]], y[[u]]) for u in drawn]))


def test_a_fixed_shape_changes_nothing_but_the_padding():
    shapes = []

    def seen(model, x, y):
        shapes.append(len(x))
        return loss(model, x, y)

    session, (x, y) = session_of(loss=seen, fixed_shapes=True, physical_batch_size=25), data()
    drawn = session.draw()
    session.backward(drawn)
    assert shapes[-1] == 25
    agree(noiseless(session, 0), twin(session.model, [(x[[u]], y[[u]]) for u in drawn]))


def test_an_empty_step_releases_noise_only_and_counts():
    session = session_of(method="capture")
    facts = session.backward(np.empty(0, dtype=np.int64))
    assert (facts.units, facts.not_finite, session.steps_taken) == (0, 0, 1)
    assert math.isnan(facts.loss)
    agree(noiseless(session, 0), {n: torch.zeros_like(p) for n, p in session.model.named_parameters()})
    assert all(bool(p.grad.ne(0).all()) for p in session.model.parameters())
    session.backward(np.arange(3))
    assert session.method == "capture"


def test_a_rate_so_small_that_all_steps_are_empty_still_trains_on_noise():
    session = session_of(plan=plan(sample_rate=1e-9))
    assert [len(d) for d in steps(session)] == [0, 0, 0, 0]
    assert session.unmoved() == []


def test_one_unit_is_enough_for_the_probe():
    session, (x, y) = session_of(), data()
    session.backward(np.array([11]))
    assert session.method == "capture"
    agree(noiseless(session, 0), twin(session.model, [(x[[11]], y[[11]])]))


@pytest.mark.parametrize("method", METHODS)
def test_all_records_of_a_unit_are_clipped_together(method):
    x, y = data()
    unit_of = np.arange(RECORDS) % 9 // 2 * 3  # units of 4 to 10 records, with names that have gaps
    session = session_of(plan=plan(max_records_per_unit=10, unit="patient"), unit_of=unit_of, method=method)
    session.backward(np.array([0, 2, 4]))
    names = np.unique(unit_of)
    agree(
        noiseless(session, 0),
        twin(session.model, [(x[unit_of == names[u]], y[unit_of == names[u]]) for u in (0, 2, 4)]),
    )
    assert "at most 10 records each" in session.history.events[0].mechanism["unit"]


@pytest.mark.parametrize("size", [1, 2])
def test_of_a_unit_above_the_cap_as_many_records_as_the_cap_allows_count(size):
    x, y = data()
    session = session_of(plan=plan(max_records_per_unit=3), unit_of=np.arange(RECORDS) // 10, physical_batch_size=size)
    session.backward(np.array([0, 1, 3]))
    whole = session_of(plan=plan(max_records_per_unit=3), unit_of=np.arange(RECORDS) // 10)
    whole.backward(np.array([3, 0, 1]))
    agree(noiseless(session, 0), noiseless(whole, 0))
    everything = twin(session.model, [(x[u * 10 : u * 10 + 10], y[u * 10 : u * 10 + 10]) for u in (0, 1, 3)])
    assert not torch.allclose(noiseless(session, 0)["0.weight"], everything["0.weight"])


def test_augmented_copies_are_averaged_before_clipping():
    x, y = data()

    class Augmented:
        def __len__(self):
            return RECORDS

        def __call__(self, rows):
            copies = torch.zeros(len(rows), dtype=torch.float64)
            for place, row in enumerate(rows.tolist()):
                copies[place] = float((rows[:place] == row).sum())  # the first copy as it is, the second shifted, ...
            return x[rows] + copies[:, None], y[rows]

    session = session_of(plan=plan(augmentations=3), data=Augmented(), physical_batch_size=1, fixed_shapes=True)
    session.backward(np.array([4, 7]))
    units = [(torch.stack([x[u], x[u] + 1, x[u] + 2]), y[[u, u, u]]) for u in (4, 7)]
    agree(noiseless(session, 0), twin(session.model, units))


def test_the_order_of_records_does_not_matter():
    x, y = data()
    order = torch.randperm(RECORDS, generator=torch.Generator().manual_seed(1))
    there, back = session_of(), session_of(data=(x[order], y[order]))
    there.backward(order[:9].numpy())
    back.backward(np.arange(9))
    agree(noiseless(there, 0), noiseless(back, 0))


@pytest.mark.parametrize("method", METHODS)
def test_examples_that_are_not_finite_count_as_zero_and_are_reported(method):
    x, y = data()
    x[5], x[6, 2] = float("nan"), float("inf")
    session = session_of(data=(x, y), method=method)
    facts = session.backward(np.array([1, 2, 3, 8, 5, 6]))
    assert (facts.units, facts.not_finite) == (6, 2)
    agree(noiseless(session, 0), twin(session.model, [(x[[u]], y[[u]]) for u in (1, 2, 3, 8)]))


def test_a_step_too_many_is_refused():
    session = session_of()
    assert len(steps(session)) == session.plan.steps == session.steps_taken
    with pytest.raises(NotPrivateError, match="at most 4 steps"):
        session.backward(np.arange(2))
    assert list(session.steps()) == []


def test_a_step_needs_a_draw_and_a_draw_serves_once():
    session = session_of()
    with pytest.raises(UsageError, match="a draw before the step"):
        session.backward()
    for _ in session.steps():
        session.backward()
        with pytest.raises(UsageError, match="a draw before the step"):
            session.backward()
        break


def test_a_release_takes_no_draw_but_its_own():
    session = session_of(audit_seed=None)
    with pytest.raises(NotPrivateError, match="own draw"):
        session.backward(np.arange(3))
    assert session.steps_taken == 0


class Bypassing(nn.Module):
    """Reaches its parameters by an autograd function, where a record cannot follow."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return _Product.apply(x, self.a.weight) + _Product.apply(x, self.b.weight)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.T @ x


def test_what_cannot_be_followed_goes_to_the_loop_with_the_reason():
    torch.manual_seed(0)
    session, (x, y) = session_of(Bypassing().double()), data()
    session.backward(np.arange(6))
    assert session.method == "loop"
    assert "_Product" in session.why_loop
    assert facts_of(session)["why_loop"] == session.why_loop
    agree(noiseless(session, 0), twin(session.model, [(x[[u]], y[[u]]) for u in range(6)]))


class Sneaking(nn.Module):
    """Behaves until it is told not to."""

    def __init__(self):
        super().__init__()
        self.inner, self.sneaks = Bypassing(), False

    def forward(self, x):
        plain = self.inner.a(x) + self.inner.b(x)
        return plain + self.inner(x) if self.sneaks else plain


@pytest.mark.parametrize("charged", [False, True])
def test_after_a_refusal_no_gradient_is_left_and_no_step_counted(charged):
    session = session_of(Sneaking().double(), method="capture", charge=Refusing() if charged else None)
    if not charged:
        session.backward(np.arange(4))
        session.model.sneaks = True
    before = session.steps_taken
    with pytest.raises(NotPrivateError):
        session.backward(np.arange(4))
    assert all(p.grad is None for p in session.model.parameters())
    assert session.steps_taken == before


class Refusing:
    def step(self):
        raise NotPrivateError("Expected budget, got none.")


class Counting:
    def __init__(self):
        self.steps = 0

    def step(self):
        self.steps += 1


def test_every_step_is_charged_once_empty_ones_included():
    charge = Counting()
    steps(session_of(charge=charge, plan=plan(sample_rate=0.02), physical_batch_size=1))
    assert charge.steps == 4


def test_a_network_that_mixes_examples_is_refused_before_anything_is_charged():
    charge, model = Counting(), nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES)).double()
    for method in METHODS:
        session = session_of(model, charge=charge, method=method)
        with pytest.raises(NotPrivateError, match="BatchNorm1d at `1`"):
            session.backward(np.arange(5))
    assert charge.steps == 0


def test_a_loss_that_mixes_examples_is_refused():
    def centred(model, x, y):
        found = loss(model, x, y)
        return found - found.mean() * 0.5

    with pytest.raises(NotPrivateError, match="Expected each example to have its own"):
        session_of(loss=centred).backward(np.arange(5))


def test_the_loss_must_have_one_value_per_row():
    with pytest.raises(NotPrivateError, match="one loss per row"):
        session_of(loss=lambda model, x, y: F.cross_entropy(model(x), y)).backward(np.arange(5))


def test_a_resumed_audit_run_ends_where_the_unbroken_one_does():
    unbroken, first, second = session_of(), session_of(), session_of()
    steps(unbroken)
    steps(first, most=2)
    second.model.load_state_dict(first.model.state_dict())
    second.steps_taken, second.state = first.steps_taken, first.state
    drawn = steps(second)
    assert len(drawn) == 2
    assert torch.equal(weights(second), weights(unbroken))
    assert not torch.equal(weights(first), weights(unbroken))


def test_the_adaptive_bound_moves_with_the_steps_and_is_the_same_for_the_same_seed():
    chosen = plan(clipping=AdaptiveQuantile(initial=0.1))
    one, two = session_of(plan=chosen), session_of(plan=chosen, physical_batch_size=2)
    for session in (one, two):
        steps(session)
    assert one.state.max_grad_norms[0] != 0.1
    assert one.state == two.state
    torch.testing.assert_close(weights(one), weights(two))


def test_the_history_states_what_ran_and_an_audit_seed_stamps_it():
    audit, release = session_of(), session_of(audit_seed=None)
    steps(audit, most=3)
    (event,) = audit.history.events
    assert (event.mechanism["audit_only"], event.mechanism["steps"], event.records) == (True, 3, RECORDS)
    assert release.history.events[0].mechanism["audit_only"] is False


def test_a_release_never_repeats_itself_and_an_audit_always_does():
    release = [session_of(audit_seed=None, plan=plan(sample_rate=1.0)) for _ in range(2)]
    audit = [session_of() for _ in range(2)]
    for session in (*release, *audit):
        steps(session, most=1)
    assert not torch.equal(weights(release[0]), weights(release[1]))
    assert torch.equal(weights(audit[0]), weights(audit[1]))


def test_parameters_that_stay_are_named():
    session = session_of()
    optimizer = torch.optim.SGD(session.model[0].parameters(), lr=0.5)
    for _ in session.steps():
        session.backward()
        optimizer.step()
    assert session.unmoved() == ["2.weight", "2.bias"]


def test_an_unused_parameter_gets_noise_and_a_frozen_one_nothing():
    model = network()
    model.register_parameter("unused", nn.Parameter(torch.zeros(3, dtype=torch.float64)))
    model[0].bias.requires_grad_(False)
    session = session_of(model)
    session.backward(np.arange(4))
    assert bool(model.unused.grad.ne(0).all())
    assert model[0].bias.grad is None


def test_the_network_is_left_as_it_is():
    model = network()
    names, hooks = list(model.state_dict()), [len(m._forward_hooks) for m in model.modules()]
    steps(session_of(model))
    assert list(model.state_dict()) == names
    assert [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()] == hooks


def test_single_precision_gives_what_double_does():
    x, y = data()
    single, double = session_of(network(torch.float32), data=(x.float(), y)), session_of()
    for session in (single, double):
        session.backward(np.arange(8))
    expected = twin(double.model, [(x[[u]], y[[u]]) for u in range(8)])
    for name, parameter in single.model.named_parameters():
        noise = SeededNoise(SEED, "private").at("noise", 0, name).fill(torch.empty_like(parameter))
        found = (parameter.grad - noise / 12) * 12
        torch.testing.assert_close(found.double(), expected[name], rtol=1e-4, atol=1e-4)


def test_a_method_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="method"):
        session_of(method="hooks")


def test_a_compiled_network_is_refused_where_one_pass_is_asked_for():
    model = torch.jit.trace(network(), torch.zeros(2, FEATURES, dtype=torch.float64))
    with pytest.raises(NotCaptured, match="TorchScript"):
        session_of(model, method="capture").backward(np.arange(4))


def test_what_is_used_most_is_loaded_from_the_package_when_asked_for():
    code = (
        "import sys, sfumato.private as p; assert 'torch' not in sys.modules; print(p.make.__module__, p.Plan.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["sfumato.private.session", "Plan"]
    assert private.calibrated(
        target_epsilon=3, delta=1e-3, sample_rate=0.3, steps=4, expected_batch_size=12, adjacency="ADD_OR_REMOVE_ONE"
    ).noise_multiplier == pytest.approx(1, abs=0.7)
    with pytest.raises(AttributeError, match="no attribute 'made'"):
        _ = private.made
