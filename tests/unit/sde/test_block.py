import weakref
from shutil import which

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfumato.errors import UsageError
from sfumato.private.noise import SeededNoise, SystemNoise
from sfumato.sde import Grid, Schedule, SDEBlock, set_noise, set_progress
from sfumato.sde.diffusions.choice import diffusion_named
from sfumato.sde.drifts.convolutional import ConvDrift
from sfumato.sde.drifts.dense import DenseDrift
from sfumato.sde.integrators.choice import integrator_named
from sfumato.sde.noise import SourceDraws
from sfumato.training.draws import Draws

f64 = torch.float64


def block(field="additive", name="euler-maruyama", *, image=False, steps=4, **more):
    torch.manual_seed(0)
    shape = (4, 5, 5) if image else (6,)
    drift = ConvDrift(4) if image else DenseDrift(6, 5)
    diffusion = None if field is None else diffusion_named(field, 0.4)
    made = SDEBlock(drift, Grid(steps=steps), integrator_named(name), diffusion, shape=shape, **more)
    return made.to(f64), torch.randn(5, *shape, dtype=f64), torch.randn(steps, 5, *shape, dtype=f64)


@pytest.mark.parametrize("field", ["additive", "multiplicative", "dropout-type", "learned-scalar"])
@pytest.mark.parametrize("image", [False, True])
def test_vmap_of_grad_is_the_loop_over_records_each_with_its_own_noise(field, image):
    net, h, noise = block(field, image=image)

    def loss(parameters, record, path):
        return functional_call(net, parameters, (record.unsqueeze(0), path.unsqueeze(1))).square().sum()

    parameters = {name: p.detach() for name, p in net.named_parameters()}
    found = vmap(grad(loss), in_dims=(None, 0, 1))(parameters, h, noise)
    for row in range(len(h)):
        net.zero_grad()
        net(h[row : row + 1], noise[:, row : row + 1]).square().sum().backward()
        for name, p in net.named_parameters():
            torch.testing.assert_close(found[name][row], p.grad, rtol=1e-9, atol=1e-10)
    net.zero_grad()
    net(h, noise).square().sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(found[name].sum(0), p.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("draws", [None, Draws((1,), ("t",)), SourceDraws(SeededNoise(0))])
def test_vmap_without_given_noise_raises_and_never_shares_a_draw(draws):
    net, h, _ = block()
    set_noise(net, draws)
    with pytest.raises((RuntimeError, UsageError), match="random"):
        vmap(lambda record: net(record.unsqueeze(0)))(h)


@pytest.mark.slow
@pytest.mark.skipif(not (which("g++") or which("clang++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("field", [None, "additive", "multiplicative", "learned-scalar"])
def test_compiled_is_eager(field):
    net, h, noise = block(field, steps=3, image=field == "multiplicative")
    given = () if field is None else (noise[:3],)
    compiled = torch.compile(net, fullgraph=True)
    outs = []
    for run in (net, compiled):
        net.zero_grad()
        out = run(h, *given)
        out.square().sum().backward()
        outs.append([out, *(p.grad.clone() for p in net.parameters())])
    for eager, other in zip(*outs, strict=True):
        torch.testing.assert_close(eager, other, rtol=1e-9, atol=1e-10)


class Peak(TorchDispatchMode):
    """Bytes of tensors made inside that are alive at once, at most."""

    def __init__(self):
        super().__init__()
        self.alive, self.most, self.seen = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return out

    def note(self, storage):
        place = storage.data_ptr()
        if place in self.seen or storage.nbytes() == 0:
            return
        size = storage.nbytes()
        self.alive += size
        self.most = max(self.most, self.alive)
        self.seen[place] = weakref.ref(storage, lambda _: self.gone(place, size))

    def gone(self, place, size):
        self.alive -= size
        self.seen.pop(place, None)


def peak(steps, *, checkpointed):
    torch.manual_seed(0)
    net = SDEBlock(
        ConvDrift(8), Grid(steps=steps), integrator_named("euler-maruyama"), diffusion_named("multiplicative", 0.1),
        checkpointed=checkpointed,
    )  # fmt: skip
    set_noise(net, Draws((1,), ("t",)))
    h = torch.randn(4, 8, 32, 32)
    with Peak() as mode:
        net(h).square().sum().backward()
    return mode.most / (h.numel() * h.element_size())


def test_checkpointed_steps_keep_one_state_a_step_and_no_noise():
    """In states: a plain step keeps several activations and its noise, a checkpointed one the state alone."""
    plain, checkpointed = ([peak(n, checkpointed=c) for n in (8, 16)] for c in (False, True))
    assert (plain[1] - plain[0]) / 8 > 5
    assert (checkpointed[1] - checkpointed[0]) / 8 == pytest.approx(1, abs=0.1)
    assert checkpointed[1] < plain[1] / 3


def test_additive_noise_keeps_no_noise_for_the_backward_pass():
    kept = []
    for field in ("additive", "multiplicative"):
        net, h, _ = block(field)
        set_noise(net, Draws((1,), ("t",)))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            net(h.clone().requires_grad_())
        kept.append(sum(sizes))
    assert kept[0] < kept[1]


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("draws", [None, SourceDraws(SeededNoise(3))])
def test_gradients_are_the_same_whether_or_not_steps_run_again(checkpointed, draws):
    net, h, _ = block("multiplicative", checkpointed=checkpointed)
    set_noise(net, draws)
    torch.manual_seed(8)
    net(h).square().sum().backward()
    found = [p.grad.clone() for p in net.parameters()]
    plain, _, _ = block("multiplicative")
    set_noise(plain, draws)
    torch.manual_seed(8)
    plain(h).square().sum().backward()
    for p, other in zip(plain.parameters(), found, strict=True):
        torch.testing.assert_close(p.grad, other, rtol=1e-12, atol=1e-12)


def test_cryptographic_noise_is_kept_where_steps_run_again():
    """It cannot be drawn again: with a drift of zero the output is h times factors, which are its gradient."""
    net, _, _ = block("multiplicative", image=True, checkpointed=True)
    for p in net.parameters():
        nn.init.zeros_(p)
    set_noise(net, SourceDraws(SystemNoise()))
    h = torch.randn(2, 4, 24, 24, dtype=f64, requires_grad=True)  # more than is drawn for several steps at a time
    out = net(h)
    out.sum().backward()
    torch.testing.assert_close(h.grad, (out / h).detach())
    set_noise(net, SourceDraws(SystemNoise()))
    assert not torch.equal(net(h), out)


def test_before_the_noise_starts_the_block_takes_one_plain_step_of_euler_s_method():
    net, h, _ = block("multiplicative", "stochastic-heun", schedule=Schedule(start=0.5, ramp=0.25))
    set_noise(net, Draws((1,), ("t",)))
    outs = {}
    for done in (0.0, 0.49, 0.5, 0.625, 0.75, 1.0):
        set_progress(net, done)
        net.calls = 0
        outs[done] = net(h)
    assert torch.equal(outs[0.0], h + net.drift(0.0, h))
    assert torch.equal(outs[0.0], outs[0.49])
    set_noise(net, None, noise="off")
    set_progress(net, 0.5)
    assert torch.equal(outs[0.5], net(h))
    noisy = [float((outs[done] - outs[0.5]).detach().norm()) for done in (0.625, 0.75)]
    assert 0 < noisy[0] < noisy[1]
    assert torch.equal(outs[0.75], outs[1.0])


@pytest.mark.parametrize(("start", "ramp"), [(0.9, 0.1), (0.7, 0.3), (0.0, 1.0)])
def test_a_schedule_may_fill_the_training(start, ramp):
    assert Schedule(start=start, ramp=ramp).level(1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("start", "ramp"), [(-0.1, 0), (1.0, 0), (0.5, 0.6), (0, -0.1), (0, float("nan"))])
def test_a_schedule_that_does_not_fit_is_refused(start, ramp):
    with pytest.raises(UsageError):
        Schedule(start=start, ramp=ramp)


def test_noise_at_test_can_be_off():
    net, h, _ = block(noise_at_test=False)
    set_noise(net, Draws((1,), ("t",)))
    assert not net.answers_at_random
    assert not torch.equal(net(h), net.eval()(h))
    assert torch.equal(net(h), net(h))
    on, _, _ = block()
    assert on.answers_at_random


def test_what_cannot_work_is_refused_at_construction_or_by_name():
    net, h, noise = block(None, "euler")
    with pytest.raises(UsageError, match="without diffusion"):
        net(h, noise)
    with pytest.raises(UsageError, match="shape of a state"):
        SDEBlock(DenseDrift(6, 5), Grid(), integrator_named("euler-maruyama"), diffusion_named("learned-scalar", 1.0))
    milstein, h, noise = block("dropout-type", "milstein")
    with pytest.raises(UsageError, match="known slope"):
        milstein(h, noise)


def test_the_block_calls_what_stood_after_the_sum_and_counts_its_calls():
    net, h, _ = block(after=nn.ReLU())
    draws = Draws((1,), ("t",))
    set_noise(net, draws)
    first, second = net(h), net(h)
    assert bool((first >= 0).all())
    assert not torch.equal(first, second)
    set_noise(net, draws)
    assert torch.equal(net(h), first)
