"""Checkpointing under the record: exact with sfumato's own, refused by name with torch's."""

import weakref

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint as plain
from torch import nn

from sfumato.errors import NotCaptured
from sfumato.private.checkpoint import checkpoint
from sfumato.private.loop import Loop

f64 = torch.float64
ROWS = 4


class Net(nn.Module):
    """A body of which parts may be checkpointed, by any function."""

    def __init__(self, through, run=None, dropout=0.0):
        super().__init__()
        torch.manual_seed(4)
        self.a, self.b, self.c = (nn.Linear(5, 5, dtype=f64) for _ in range(3))
        self.scale = nn.Parameter(torch.randn(5, dtype=f64))
        self.through, self.run, self.dropout = through, run or type(self).whole, dropout

    def block(self, x):
        x = F.dropout(self.a(x).tanh(), self.dropout)
        return x * self.scale + self.b(x.tanh())

    def whole(self, x):
        return self.c(self.through(self.block, x))

    def forward(self, x):
        return self.run(self, x)


def as_many_tokens_as_rows(net, x):
    h = net.a(x.unsqueeze(1) * torch.arange(1, ROWS + 1).to(f64).view(1, -1, 1))
    h = net.through(lambda g: net.a(g.transpose(0, 1)).tanh().transpose(0, 1), h)
    return net.a(h).tanh().sum(1)


def straight(function, *args, **kwargs):
    return function(*args, **kwargs)


def first(net, x):
    return net.c(net.through(net.block, x))


def inside_and_outside(net, x):
    return net.a(net.through(net.block, net.a(x).relu_())) + net.b(x) * net.scale


def reused(net, x):
    for _ in range(3):
        x = x + net.through(net.block, x)
    return net.c(x)


def nested(net, x):
    return net.c(net.through(lambda h: net.a(net.through(net.block, h)) + net.b(h), net.a(x)))


def several(net, x):
    found = net.through(lambda h, g: {"sum": net.a(h) + g, "parts": (net.b(g), (h > 0).long())}, net.c(x), g=x.tanh())
    return found["sum"] * found["parts"][1] + found["parts"][0]


def tied(net, x):
    weight = net.a.weight.T.tanh()
    return net.through(lambda h, w: F.linear(h, w) @ w, net.b(x), weight) + F.linear(x, weight)


def one_is_not_used(net, x):
    net.through(net.block, net.b(x))
    return net.c(net.through(net.block, x))


PARTS = {
    "first": first, "inside and outside": inside_and_outside, "reused": reused, "nested": nested, "several": several,
    "as many tokens as rows": as_many_tokens_as_rows, "tied": tied, "one is not used": one_is_not_used,
}  # fmt: skip


def batch_of():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(ROWS, 5, generator=generator, dtype=f64), torch.arange(ROWS) % 3


@pytest.mark.parametrize("part", PARTS)
def test_checkpointed_equals_kept(part, private_comparison):
    found = private_comparison.compare(Net(checkpoint, PARTS[part]), *batch_of())
    found.check()
    straightforward = private_comparison.compare(Net(straight, PARTS[part]), *batch_of())
    for name, value in straightforward.sums.items():
        torch.testing.assert_close(found.sums[name], value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("part", PARTS)
def test_dropout_is_drawn_again_as_it_was(part, private_comparison):
    """The same seed with and without checkpointing; the generator goes on from the same place."""
    after, squares = [], []
    x, labels = batch_of()
    for through in (checkpoint, straight):
        net = Net(through, PARTS[part], dropout=0.5)
        engine = private_comparison.engine_for(net, x, labels)
        torch.manual_seed(8)
        squared, _, _ = engine.gradients(
            lambda net=net: private_comparison.loss_of(net(x), labels), torch.ones(ROWS), ROWS
        )
        squares.append(squared)
        after.append(torch.rand(1))
    torch.testing.assert_close(squares[0], squares[1], rtol=1e-12, atol=1e-13)
    assert torch.equal(*after)


MARKS = weakref.WeakSet()


class Marked(torch.autograd.Function):
    """Its mark lives as long as autograd holds on to what the function saved."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark = nn.Identity()
        MARKS.add(ctx.mark)
        return x * 1.0

    @staticmethod
    def backward(ctx, grad):
        return grad


@pytest.mark.parametrize(("through", "kept"), [(checkpoint, 0), (straight, 1)])
def test_activations_inside_are_not_kept(through, kept, private_comparison):
    net = Net(through, lambda net, x: net.c(net.through(lambda h: net.b(Marked.apply(net.a(h))), x)))
    (x, labels), seen = batch_of(), []
    engine = private_comparison.engine_for(net, x, labels)

    def losses():
        values = private_comparison.loss_of(net(x), labels)
        seen.append(len(MARKS))
        return values

    engine.gradients(losses, torch.ones(ROWS), ROWS)
    assert seen == [kept]


def test_without_a_record_it_is_torchs_own():
    net, (x, labels) = Net(checkpoint), batch_of()
    F.cross_entropy(net(x), labels).backward()
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    F.cross_entropy(net.c(net.block(x)), labels).backward()
    for found, parameter in zip(gradients, net.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


def writes(net, x):
    return net.c(net.through(lambda h: net.a(h.add_(1)), net.b(x)))


def gives_back(net, x):
    return net.through(lambda h: net.scale * 2, net.b(x)) * x


def differentiates(net, x):
    def part(h):
        g = h.detach().requires_grad_()
        return h + torch.autograd.grad(g.tanh().square().sum(), g)[0]

    return net.c(net.through(part, net.b(x)))


@pytest.mark.parametrize(
    ("run", "word"), [(writes, "writes to them"), (gives_back, "parameters alone"), (differentiates, "differentiates")]
)
def test_what_a_part_must_not_do(run, word, private_comparison):
    with pytest.raises(NotCaptured, match=word):
        private_comparison.compare(Net(checkpoint, run), *batch_of())


def not_reentrant(function, *args):
    return plain.checkpoint(function, *args, use_reentrant=False)


def reentrant(function, *args):
    return plain.checkpoint(function, *args, use_reentrant=True)


def inner(net, x):
    return net.c(net.through(net.block, net.b(x)))


@pytest.mark.parametrize("through", [not_reentrant, reentrant])
def test_torchs_checkpointing_is_refused_by_name(through, private_comparison):
    with pytest.raises(NotCaptured, match="checkpointing"):
        private_comparison.compare(Net(through, inner), *batch_of())


@pytest.mark.parametrize("through", [not_reentrant, reentrant])
def test_torchs_checkpointing_is_exact_in_the_loop(through, private_comparison):
    (x, labels), sums = batch_of(), {}
    net = Net(through, inner)
    clipped = Loop(net).add(
        lambda rows: private_comparison.loss_of(net(rows[0]), rows[1]),
        (x, labels), torch.ones(ROWS), ROWS, private_comparison.clip, sums,
    )  # fmt: skip
    squared, expected = private_comparison.looped(Net(straight, inner), x, labels, ROWS, torch.ones(ROWS, dtype=f64))
    torch.testing.assert_close(clipped.squared.sum(1), squared, rtol=1e-10, atol=1e-12)
    for name, value in expected.items():
        torch.testing.assert_close(sums[name], value, rtol=1e-10, atol=1e-12)


def test_moving_saved_tensors_to_the_host_is_exact(private_comparison):
    def through(function, *args):
        with torch.autograd.graph.save_on_cpu():
            return function(*args)

    private_comparison.compare(Net(through, inner), *batch_of()).check()
