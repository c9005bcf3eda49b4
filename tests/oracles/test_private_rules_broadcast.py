"""Parameters used elementwise, expanded, in matrix products and by the fallback, against a loop of single examples."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import NotCaptured, NotPrivateError

ROWS = TOKENS = 5  # equal, so that sizes alone do not tell the axes apart
WIDTH, CLASSES = 4, 3
f64 = torch.float64


class Net(nn.Module):
    """Parameters by name, and what to do with them."""

    def __init__(self, run, **shapes):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.run = run
        for name, shape in shapes.items():
            value = torch.randn(shape, generator=generator, dtype=f64) + 0.1
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, batch):
        return self.run(self, batch)


def batch_of(rows=ROWS, tokens=TOKENS):
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(rows, tokens, WIDTH, generator=generator, dtype=f64)
    return x, torch.arange(rows) % CLASSES


def in_place(function):
    def run(net, x):
        h = x * 1.0
        function(net, h)
        return h.sum(1)

    return run


def after_layer(function):
    def run(net, x):
        h = F.linear(x, net.w)
        function(net, h)
        return h.sum(1)

    return run


P, PT, W, WP = {"p": (WIDTH,)}, {"p": (TOKENS, WIDTH)}, {"w": (WIDTH, WIDTH)}, {"w": (WIDTH, WIDTH), "p": (WIDTH,)}
ELEMENTWISE = {
    "position table": (PT, lambda n, x: (x + n.p).tanh().sum(1)),
    "position table left": (PT, lambda n, x: (n.p + x).tanh().sum(1)),
    "first token only": ({"p": (1, 1, WIDTH)}, lambda n, x: (x + n.p).tanh().sum(1)),
    "add alpha": (P, lambda n, x: torch.add(x, n.p, alpha=0.5).tanh().sum(1)),
    "difference": (P, lambda n, x: (x - n.p).tanh().sum(1)),
    "difference left": (P, lambda n, x: (n.p - x).tanh().sum(1)),
    "difference alpha": (P, lambda n, x: torch.sub(n.p, x, alpha=0.3).tanh().sum(1)),
    "rsub": (P, lambda n, x: torch.rsub(n.p, x, alpha=2).tanh().sum(1) + torch.rsub(x, n.p, alpha=2).tanh().sum(1)),
    "layer scale": (P, lambda n, x: (x * n.p).tanh().sum(1)),
    "temperature": ({"p": ()}, lambda n, x: (x * n.p).tanh().sum(1)),
    "temperature divides": ({"p": (1,)}, lambda n, x: (x / n.p).tanh().sum(1)),
    "quotient left": (P, lambda n, x: (n.p / (x.square() + 1)).sum(1)),
    "per token": ({"p": (TOKENS, 1)}, lambda n, x: (n.p * x).tanh().sum(1)),
    "wider than data": ({"p": (TOKENS, WIDTH)}, lambda n, x: (x[:, :1, :1] * n.p).tanh().sum(1)),
    "time first": (P, lambda n, x: (x.transpose(0, 1) * n.p).tanh().sum(0)),
    "time first table": ({"p": (TOKENS, 1, WIDTH)}, lambda n, x: (x.transpose(0, 1) + n.p).tanh().sum(0)),
    "joined axes": (P, lambda n, x: (x.reshape(-1, WIDTH) * n.p).tanh().view(-1, TOKENS, WIDTH).sum(1)),
    "joined time first": (
        P,
        lambda n, x: (x.transpose(0, 1).reshape(-1, WIDTH) + n.p).tanh().view(TOKENS, -1, WIDTH).sum(0),
    ),
    "integer data": (P, lambda n, x: ((x > 0).long() * n.p).sum(1)),
    "in place sum": (P, in_place(lambda n, h: h.add_(n.p).tanh_())),
    "in place operator": (P, in_place(lambda n, h: h.__imul__(n.p).tanh_())),
    "in place on a layer": (WP, after_layer(lambda n, h: h.mul_(n.p).tanh_())),
    "in place quotient": (WP, after_layer(lambda n, h: h.div_(n.p).sub_(n.p))),
    "used three times": (P, lambda n, x: ((x * n.p).tanh() * n.p + n.p).sum(1)),
    "made from another": (P, lambda n, x: (x * n.p.exp() + n.p.softmax(0)).tanh().sum(1)),
    "penalty": (P, lambda n, x: (x * n.p).sum(1) + n.p.square().sum()),
}
REPEATED = {
    "class token": ({"p": (1, 1, WIDTH)}, lambda n, x: torch.cat([n.p.expand(len(x), -1, -1), x], 1).tanh().sum(1)),
    "class tokens of a stack": (
        {"p": (3, WIDTH)},
        lambda n, x: torch.cat([n.p[1:].unsqueeze(0).expand(len(x), 2, WIDTH), x], 1).tanh().sum(1),
    ),
    "repeat": ({"p": (1, 2, WIDTH)}, lambda n, x: torch.cat([n.p.repeat(len(x), 2, 1), x], 1).cumsum(1).tanh().sum(1)),
    "tile": ({"p": (2, WIDTH)}, lambda n, x: torch.cat([n.p.tile(len(x), 1, 1), x], 1).cumsum(1).tanh().sum(1)),
    "broadcast_to": (P, lambda n, x: torch.broadcast_to(n.p, x.shape).mul(x).tanh().sum(1)),
    "expand_as": (P, lambda n, x: (n.p.expand_as(x) * x).tanh().sum(1)),
    "times ones": (P, lambda n, x: (torch.ones(len(x), 1, dtype=f64) * n.p + x[:, 0]).tanh()),
    "indexed": (PT, lambda n, x: (n.p[torch.zeros(len(x)).long()] * x[:, 0]).tanh()),
    "outer product of two": (
        {"p": (WIDTH,), "q": (WIDTH,)},
        lambda n, x: (torch.outer(torch.ones(len(x)), torch.cat([n.p, n.q.tanh()])) * x[:, :2].flatten(1)).tanh()[
            :, 1:5
        ],
    ),
    "interleaved": (P, lambda n, x: (n.p.unsqueeze(0).repeat_interleave(len(x), 0) * x[:, 0]).tanh()),
    "learned queries": (
        {"p": (2, WIDTH), "w": (WIDTH, WIDTH)},
        lambda n, x: (F.linear(n.p.expand(len(x), -1, -1), n.w) @ x.transpose(1, 2)).tanh().flatten(1),
    ),
    "copies and original": (P, lambda n, x: (n.p.expand(len(x), -1) * (x * n.p).sum(1)).tanh()),
}
PRODUCTS = {
    "matmul": (W, lambda n, x: torch.matmul(x, n.w).tanh().sum(1)),
    "operator": (W, lambda n, x: (x @ n.w).tanh().sum(1)),
    "two axes": (W, lambda n, x: (x[:, 0] @ n.w).tanh()),
    "mm": (W, lambda n, x: torch.mm(x[:, 0], n.w).tanh()),
    "left": (W, lambda n, x: (n.w @ x.transpose(1, 2)).tanh().sum(2)),
    "left rows last": (W, lambda n, x: torch.mm(n.w, x[:, 0].T).tanh().T),
    "left rows last, three axes": (W, lambda n, x: (n.w @ x.permute(1, 2, 0)).tanh().sum(0).T),
    "time first": (W, lambda n, x: (x.transpose(0, 1) @ n.w).tanh().sum(0)),
    "joined time first": (
        W,
        lambda n, x: (x.transpose(0, 1).reshape(-1, WIDTH) @ n.w).tanh().view(TOKENS, -1, WIDTH).sum(0),
    ),
    "transposed": (W, lambda n, x: (x @ n.w.T + x @ n.w).tanh().sum(1)),
    "both sides": (W, lambda n, x: (n.w @ (x @ n.w).tanh().transpose(1, 2)).tanh().sum(2)),
    "twice left": (W, lambda n, x: (n.w @ (n.w @ x.transpose(1, 2)).tanh()).tanh().sum(2)),
    "vector": (P, lambda n, x: (x @ n.p).tanh()),
    "mv": (P, lambda n, x: torch.stack([torch.mv(x[:, 0], n.p).tanh(), x[:, 1, 0], torch.mv(x[:, 1], n.p)], 1)),
    "heads": ({"w": (2, WIDTH, 3)}, lambda n, x: (x.unsqueeze(1) @ n.w).tanh().sum((1, 2))),
    "heads rows second": ({"w": (TOKENS, WIDTH, 3)}, lambda n, x: torch.bmm(x.transpose(0, 1), n.w).tanh().sum(0)),
    "baddbmm": (
        {"b": (TOKENS, 1, 3), "w": (TOKENS, WIDTH, 3)},
        lambda n, x: torch.baddbmm(n.b, x.transpose(0, 1), n.w).tanh().sum(0),
    ),
    "addmm": (
        {"b": (3,), "w": (WIDTH, 3)},
        lambda n, x: torch.addmm(n.b, x[:, 0], n.w, beta=0.5, alpha=2.0).tanh(),
    ),
    "addmm left": (
        {"b": (3, 1), "w": (3, WIDTH)},
        lambda n, x: torch.addmm(n.b, n.w, x[:, 0].T, beta=0.5, alpha=2.0).tanh().T,
    ),
    "einsum": ({"w": (WIDTH, 3)}, lambda n, x: torch.einsum("btd,dp->btp", x, n.w).tanh().sum(1)),
    "einsum turned": ({"w": (3, WIDTH)}, lambda n, x: torch.einsum("pd,btd->tpb", n.w, x).tanh().sum(0).T),
    "einsum list": ({"w": (3, WIDTH)}, lambda n, x: torch.einsum("btd,pd->bpt", [x, n.w]).tanh().sum(2)),
    "einsum twice": (W, lambda n, x: torch.einsum("bdt,pd->btp", torch.einsum("btd,dp->bpt", x, n.w), n.w).sum(1)),
    "einsum heads": ({"w": (2, WIDTH, 3)}, lambda n, x: torch.einsum("btd,hdp->bhp", x, n.w).tanh().sum(1)),
    "einsum kept": (P, lambda n, x: torch.einsum("btd,d->bd", x, n.p).tanh()),
    "einsum form": (W, lambda n, x: torch.einsum("bsd,de,bte->bst", x, n.w, x).tanh().sum(1)),
    "tensordot": ({"w": (WIDTH, 3)}, lambda n, x: torch.tensordot(x, n.w, dims=([2], [0])).tanh().sum(1)),
}
FALLBACK = {
    "concatenated": (P, lambda n, x: torch.cat([x, (x[:, :1] * 0 + 1) * n.p], 1).tanh().sum(1)),
    "where": (P, lambda n, x: torch.where(x > 0, x, n.p).tanh().sum(1)),
    "where masked token": (P, lambda n, x: torch.where((x[..., :1] > 0), n.p, x).tanh().sum(1)),
    "bilinear": (
        {"w": (3, WIDTH, WIDTH), "b": (3,)},
        lambda n, x: F.bilinear(x[:, 0], x[:, 1], n.w, n.b).tanh(),
    ),
    "prelu": (P, lambda n, x: F.prelu(x.transpose(1, 2), n.p).sum(2)),
    "prelu one slope": ({"p": (1,)}, lambda n, x: F.prelu(x, n.p).sum(1)),
    "indexed by data": (PT, lambda n, x: (n.p[(x[..., 0] > 0).long()] * x).tanh().sum(1)),
    "index_select by data": (PT, lambda n, x: (torch.index_select(n.p, 0, (x[:, 0, 0] > 0).long()) * x[:, 0]).tanh()),
    "gather": (PT, lambda n, x: (n.p.expand(len(x), -1, -1).gather(1, (x > 0).long()) * x).tanh().sum(1)),
    "power": (P, lambda n, x: (x.abs() + 1).pow(n.p.abs()).sum(1)),
    "maximum": (P, lambda n, x: torch.maximum(x, n.p).tanh().sum(1)),
    "addcmul twice the same": (P, lambda n, x: torch.addcmul(x, n.p, n.p).tanh().sum(1)),
    "lerp": (P, lambda n, x: torch.lerp(x, x.tanh(), n.p).sum(1)),
    "joined axes": (P, lambda n, x: torch.maximum(x.reshape(-1, WIDTH), n.p).view(-1, TOKENS, WIDTH).sum(1)),
    "joined time first": (
        P,
        lambda n, x: torch.maximum(x.transpose(0, 1).reshape(-1, WIDTH), n.p).view(TOKENS, -1, WIDTH).sum(0),
    ),
    "cdist": ({"p": (3, WIDTH)}, lambda n, x: torch.cdist(x, n.p.expand(len(x), -1, -1)).sum(1)),
    "cdist shared": ({"p": (3, WIDTH)}, lambda n, x: torch.cdist(x, n.p).sum(1)),
    "constant between": (P, lambda n, x: torch.maximum(x, n.p * torch.arange(WIDTH).to(f64)).sum(1)),
}
ALL = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("elementwise", ELEMENTWISE), ("repeated", REPEATED), ("products", PRODUCTS), ("fallback", FALLBACK),
    )
    for name, case in cases.items()
}  # fmt: skip


@pytest.mark.parametrize("case", ALL)
def test_a_batch_equals_its_examples_one_by_one(case, private_comparison):
    shapes, run = ALL[case]
    found = private_comparison.compare(Net(run, **shapes), *batch_of())
    found.check()
    assert (found.squared > 1e-9).all()


@pytest.mark.parametrize("case", ALL)
def test_units_of_two_rows_with_a_masked_one(case, private_comparison):
    shapes, run = ALL[case]
    weights = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.25, 0.75], dtype=f64)
    private_comparison.compare(Net(run, **shapes), *batch_of(6), units=3, weights=weights).check()


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL)
def test_a_batch_of_one_example(case, private_comparison):
    shapes, run = ALL[case]
    private_comparison.compare(Net(run, **shapes), *batch_of(1), learn_on=batch_of(3)).check()


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("bad", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)])
def test_an_example_that_is_not_finite_counts_as_zero(case, bad, private_comparison):
    shapes, run = ALL[case]
    x, labels = batch_of()
    whole = private_comparison.compare(Net(run, **shapes), x[[0, 1, 3]], labels[[0, 1, 3]])
    x = x.clone()
    x[2] = bad
    found = private_comparison.compare(Net(run, **shapes), x[:4], labels[:4], learn_on=batch_of())
    if bool(found.squared.isfinite().all()):  # the operation turns it into a finite number
        found.check()
        return
    for name, value in whole.sums.items():
        torch.testing.assert_close(found.sums[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", ["gram", "product", "each"])
@pytest.mark.parametrize("case", PRODUCTS)
def test_each_way_to_a_norm(case, way, private_comparison):
    shapes, run = PRODUCTS[case]
    private_comparison.compare(Net(run, **shapes), *batch_of(), way=way).check()


@pytest.mark.parametrize("case", ["addmm", "baddbmm"])
@pytest.mark.parametrize("frozen", ["b", "w"])
def test_a_frozen_part(case, frozen, private_comparison):
    shapes, run = PRODUCTS[case]
    net = Net(run, **shapes)
    net.get_parameter(frozen).requires_grad_(False)
    found = private_comparison.compare(net, *batch_of())
    found.check()
    assert frozen not in found.sums


def test_matrix_products_need_no_gradient_per_example(private_comparison):
    """The norm of a wide map comes from Gram matrices, whichever way the product was written."""
    for case in ("operator", "left", "left rows last", "einsum", "einsum turned", "addmm"):
        shapes, run = PRODUCTS[case]
        assert private_comparison.compare(Net(run, **shapes), *batch_of(), way="gram").ways["w"] == "gram"


REFUSED = {
    "random": (P, lambda n, x: F.rrelu(x * 1.0, training=True) * 0 + torch.nn.functional.scaled_dot_product_attention(
        x, x, n.p.view(1, 1, -1).expand(1, TOKENS, -1), dropout_p=0.5), "draws random numbers"),
    "in place without a rule": (P, lambda n, x: (x.abs() + 1).pow_(n.p), "pow_"),
    "written into": (P, lambda n, x: _put(x, n.p), "__setitem__"),
    "part of a tensor in place": (WP, lambda n, x: _part(F.linear(x, n.w), n.p), "part of one in place"),
    "mask of unknown size": (P, lambda n, x: n.p.masked_select(x[:, 0] > 0).sum() + x.sum(1), "masked_select"),
    "one entry per row": (P, lambda n, x: torch.stack([n.p] * len(x)) * x[:, 0], "entry for each"),
    "several outputs": (P, lambda n, x: torch.broadcast_tensors(x, n.p)[1] * x, "broadcast_tensors"),
}  # fmt: skip


def _put(x, p):
    h = x * 1.0
    h[:, 0] = p
    return h


def _part(h, p):
    h[:, 0].add_(p)
    return h


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(case, private_comparison):
    shapes, run, word = REFUSED[case]
    net = Net(lambda n, x: run(n, x).reshape(len(x), -1), **shapes)
    with pytest.raises((NotCaptured, NotPrivateError), match=word):
        private_comparison.compare(net, *batch_of())
