"""What cannot be trained privately, or not in one pass, is refused by name; what the loop can do, it does exactly."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import NotCaptured, NotPrivateError
from sfumato.private.loop import Loop
from sfumato.private.refusals import refuse_unsupported

f64 = torch.float64
ROWS = 4


def batch_of(rows=ROWS):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, 5, generator=generator, dtype=f64), torch.arange(rows) % 3


class Net(nn.Module):
    """A linear layer, a parameter, a buffer, and anything done with them."""

    def __init__(self, run=None, inner=None):
        super().__init__()
        torch.manual_seed(4)
        self.linear = nn.Linear(5, 5, dtype=f64)
        self.scale = nn.Parameter(torch.randn(5, dtype=f64))
        self.register_buffer("mean", torch.zeros(5, dtype=f64))
        self.run, self.inner = run, inner

    def forward(self, x):
        return self.run(self, x)


def looped(net, private_comparison):
    (x, labels), sums = batch_of(), {}
    clipped = Loop(net).add(
        lambda rows: private_comparison.loss_of(net(rows[0]), rows[1]),
        (x, labels), torch.ones(ROWS), ROWS, private_comparison.clip, sums,
    )  # fmt: skip
    squared, expected = private_comparison.looped(net, x, labels, ROWS, torch.ones(ROWS, dtype=f64))
    torch.testing.assert_close(clipped.squared.sum(1), squared, rtol=1e-10, atol=1e-12)
    for name, value in expected.items():
        torch.testing.assert_close(sums.get(name, torch.zeros_like(value)), value, rtol=1e-10, atol=1e-12)


def refused(net, private_comparison, kind, word):
    with pytest.raises(kind, match=word) as found:
        private_comparison.compare(net, *batch_of())
    assert type(found.value) is kind
    assert found.value.remedy


# --- told from the network alone -------------------------------------------------------------------------------------


def scripted():
    return nn.Sequential(nn.Linear(5, 5), torch.jit.script(nn.Linear(5, 3)))


def compiled():
    return torch.compile(nn.Linear(5, 3))


def compiled_in_place():
    net = nn.Sequential(nn.Linear(5, 3))
    net[0].compile()
    return net


def lazy():
    return nn.Sequential(nn.LazyLinear(3))


def complex_numbers():
    return nn.Sequential(nn.Linear(3, 3, dtype=torch.complex64))


def without_memory():
    return nn.Sequential(nn.Linear(3, 3, device="meta"))


def wrapped(name, module):
    """A module as a wrapper of torch's would be, without a process group."""
    kind = type(name, (nn.Module,), {"__module__": module})
    found = kind()
    found.inner = nn.Linear(3, 3)
    return found


def sharded():
    net = nn.Linear(3, 3)
    net.weight.__class__ = type("DTensor", (nn.Parameter,), {})
    return net


def own_arithmetic():
    def dispatched(cls, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))

    net = nn.Linear(3, 3)
    net.weight.__class__ = type("Arithmetic", (nn.Parameter,), {"__torch_dispatch__": classmethod(dispatched)})
    return net


SEEN = {
    "TorchScript": (scripted, NotCaptured, "TorchScript at `1`"),
    "compiled as seen": (
        lambda: wrapped("OptimizedModule", "torch._dynamo.eval_frame"), NotCaptured, "compiled one at `the network",
    ),
    "compiled": (compiled, NotCaptured, "compiled one at `the network itself`"),
    "compiled in place": (compiled_in_place, NotCaptured, "compiled one at `0`"),
    "lazy": (lazy, NotPrivateError, "0.weight of a lazy module"),
    "complex": (complex_numbers, NotPrivateError, "0.weight of type torch.complex64"),
    "meta": (without_memory, NotPrivateError, "0.weight as Parameter"),
    "FSDP": (
        lambda: wrapped("FullyShardedDataParallel", "torch.distributed.fsdp.fully_sharded_data_parallel"),
        NotPrivateError, "FSDP",
    ),
    "FSDP 2": (lambda: wrapped("FSDPModule", "torch.distributed.fsdp._fully_shard"), NotPrivateError, "FSDP"),
    "DDP": (
        lambda: wrapped("DistributedDataParallel", "torch.nn.parallel.distributed"),
        NotPrivateError, "DistributedDataParallel",
    ),
    "DTensor": (sharded, NotPrivateError, "weight as a DTensor"),
    "own arithmetic": (own_arithmetic, NotPrivateError, "weight as"),
    "BatchNorm": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), NotPrivateError, "BatchNorm2d at `1`",
    ),
    "BatchNorm without statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).eval(), NotPrivateError, "BatchNorm1d",
    ),
}  # fmt: skip

SLOW = {"compiled", "compiled in place"}  # importing the compiler takes seconds


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in SEEN])
def test_refused_from_the_network_alone(case):
    make, kind, word = SEEN[case]
    with pytest.raises(kind, match=word) as found:
        refuse_unsupported(make())
    assert type(found.value) is kind
    assert found.value.remedy


def test_ordinary_networks_pass():
    frozen_norm = nn.BatchNorm2d(2).eval()
    frozen_script = torch.jit.script(nn.Linear(3, 3).requires_grad_(False))
    refuse_unsupported(nn.Sequential(nn.Conv2d(1, 2, 3), frozen_norm, nn.GroupNorm(1, 2), nn.LSTM(2, 2), frozen_script))

    class Own(nn.Parameter):
        pass

    net = nn.Linear(3, 3)
    net.weight = Own(torch.randn(3, 3))
    refuse_unsupported(net)


def test_two_faults_that_no_loop_can_mend_come_first():
    """Else a session would go over to the loop, which mixes nothing up here but releases running statistics."""
    with pytest.raises(NotPrivateError, match="BatchNorm"):
        refuse_unsupported(nn.Sequential(torch.jit.script(nn.Linear(3, 3)), nn.BatchNorm1d(3)))


# --- told from a pass ------------------------------------------------------------------------------------------------


class Doubled(torch.autograd.Function):
    """A user's own function of a parameter."""

    @staticmethod
    def forward(ctx, x, p):
        ctx.save_for_backward(x, p)
        return x * p * 2

    @staticmethod
    def backward(ctx, grad):
        x, p = ctx.saved_tensors
        return grad * p * 2, (grad * x * 2).sum(0)


def own_function(net, x):
    return Doubled.apply(net.linear(x), net.scale)


def own_function_of_derived(net, x):
    return Doubled.apply(net.linear(x), net.scale.exp())


def overwritten_input(net, x):
    h = x.tanh()
    y = net.linear(h)
    h.add_(1)
    return y + h


def past_the_record(net, x):
    with torch._C.DisableTorchFunction():
        return F.linear(x, net.linear.weight)


def scripted_function(net, x):
    return SCRIPTED(net.linear(x), net.scale)


@torch.jit.script
def SCRIPTED(x, p):  # noqa: N802 - a constant
    return x * p


ONLY_LOOP = {
    "own function": (own_function, "scale.*DoubledBackward"),
    "own function of something derived": (own_function_of_derived, "scale"),
    "overwritten input": (overwritten_input, "linear.weight.* written to later"),
    "past the record": (past_the_record, "linear.weight.*past the record"),
    "scripted function": (scripted_function, "scale.*past the record"),
}


@pytest.mark.parametrize("case", ONLY_LOOP)
def test_refused_in_one_pass_and_exact_in_the_loop(case, private_comparison):
    run, word = ONLY_LOOP[case]
    net = Net(run)
    refused(net, private_comparison, NotCaptured, word)
    assert all(parameter.grad is None for parameter in net.parameters())
    if case != "overwritten input":
        looped(net, private_comparison)
        return
    with pytest.raises(RuntimeError, match="inplace"):
        looped(net, private_comparison)  # ordinary autograd itself refuses


def test_a_scripted_module_is_exact_in_the_loop(private_comparison):
    inner = torch.jit.script(nn.Linear(5, 5, dtype=f64))
    net = Net(lambda net, x: net.inner(x) * net.scale, inner)
    refused(net, private_comparison, NotCaptured, "inner.*past the record")
    looped(net, private_comparison)


def writes_buffer(net, x):
    net.mean.mul_(0.9).add_(x.detach().mean(0))
    return net.linear(x)


def replaces_buffer(net, x):
    net.mean = net.mean * 0.9 + x.detach().mean(0)
    return net.linear(x)


def writes_parameter(net, x):
    with torch.no_grad():
        net.scale.mul_(0.9)
    return net.linear(x)


def writes_data(net, x):
    net.scale.data.add_(x.detach().mean(0))
    return net.linear(x)


def writes_detached_part(net, x):
    net.scale.detach()[:2].fill_(0.5)
    return net.linear(x)


def sets_data(net, x):
    net.scale.data = x.detach().mean(0)
    return net.linear(x)


def replaces_parameter(net, x):
    net.scale = nn.Parameter(net.scale.detach() + x.detach().mean(0) + 1)
    return net.linear(x)


def adds_in_place(net, x):
    h = net.scale.data
    h += x.mean(0)
    return net.linear(x)


NEVER = {
    "buffer written": (writes_buffer, "mean written to"),
    "buffer replaced": (replaces_buffer, "mean written to"),
    "parameter written": (writes_parameter, "scale"),
    "parameter written through data": (writes_data, "scale.*add_"),
    "parameter written through a part": (writes_detached_part, "scale.*fill_"),
    "parameter's data replaced": (sets_data, "scale.*__set__"),
    "parameter replaced": (replaces_parameter, "scale"),
    "parameter written by data": (adds_in_place, "scale"),
    "batch norm": (lambda net, x: F.batch_norm(net.linear(x), None, None, training=True), "batch normalisation"),
    "batch norm module": (lambda net, x: net.inner(net.linear(x)), "batch normalisation"),
    "one loss": (lambda net, x: net.linear(x).sum(), "one loss per row"),
}


@pytest.mark.parametrize("case", NEVER)
def test_refused_however_it_is_trained(case, private_comparison):
    run, word = NEVER[case]
    loss = (lambda out, labels: out) if case == "one loss" else private_comparison.loss_of
    net = Net(run, nn.BatchNorm1d(5, dtype=f64))
    with pytest.raises(NotPrivateError, match=word) as found:
        private_comparison.compare(net, *batch_of(), loss=loss)
    assert type(found.value) is NotPrivateError
    assert found.value.remedy


@pytest.mark.parametrize("case", [case for case in NEVER if "written" in case or "replaced" in case])
def test_the_loop_refuses_what_is_written_to(case, private_comparison):
    run, _ = NEVER[case]
    net, (x, labels) = Net(run), batch_of()
    with pytest.raises(NotPrivateError, match="written to"):
        Loop(net).add(
            lambda rows: private_comparison.loss_of(net(rows[0]), rows[1]),
            (x, labels), torch.ones(ROWS), ROWS, private_comparison.clip, {},
        )  # fmt: skip
