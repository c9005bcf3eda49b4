"""Tensors made of parameters alone: tied, stacked, cut, parametrised, standardised; against a loop of examples."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from sfumato.models.weight_standardisation import WSConv2d, weight_standardise

f64 = torch.float64
ROWS = WIDTH = 5


class Net(nn.Module):
    """Parameters by name, and what to do with them."""

    def __init__(self, run, **shapes):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.run = run
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=generator, dtype=f64)))

    def forward(self, x):
        return self.run(self, x)


def batch_of(rows=ROWS, *shape):
    generator = torch.Generator().manual_seed(11)
    return torch.randn(rows, *(shape or (3, WIDTH)), generator=generator, dtype=f64), torch.arange(rows) % 3


def chunked(n, x):
    first, second = n.w.chunk(2, dim=0)
    return (F.linear(x, first) + F.linear(x, second).tanh()).tanh().sum(1)


def cut(n, x):
    return (F.linear(x, n.w[:3]) + F.linear(x.tanh(), n.w[1:4])).tanh().sum(1)  # parts that overlap


def stacked(n, x):
    return F.linear(x, torch.cat([n.p.unsqueeze(0), n.w, n.w.flip(0)])).tanh().sum(1)


def tied(n, x):
    return F.linear(F.linear(x, n.w).tanh(), n.w.T).sum(1)


def tied_thrice(n, x):
    h = F.linear(x, n.w).tanh()
    return (F.linear(h, n.w.t()) + h @ n.w + (n.w.transpose(0, 1) @ h.transpose(1, 2)).transpose(1, 2)).sum(1)


def made_of_made(n, x):
    w = n.w.exp()
    return F.linear(F.linear(x, w / w.sum(1, keepdim=True)), w.T * n.p).sum(1)


def low_rank(n, x):
    return F.linear(x, n.w.detach() + n.a @ n.b).tanh().sum(1)


def straight_through(n, x):
    return F.linear(x, n.w + (n.w.sign() - n.w).detach()).tanh().sum(1)


def norm_without_gradient(n, x):
    with torch.no_grad():
        norm = n.w.norm()
    return F.linear(x, n.w / norm).tanh().sum(1)


def maths(n, x):
    return F.linear(x, n.w).tanh().sum(1) + (x * n.w.diagonal()).sum(1) + n.w.square().mean()


def unbound(n, x):
    for w in torch.stack([n.w, n.w.tanh(), n.w.T]).unbind(0):
        x = x + F.linear(x, w).tanh()
    return x.sum(1)


S = (WIDTH, WIDTH)
CASES = {
    "transposed": (tied, {"w": S}),
    "transposed in three ways": (tied_thrice, {"w": S}),
    "chunked": (chunked, {"w": (6, WIDTH)}),
    "cut into overlapping parts": (cut, {"w": S}),
    "stacked": (stacked, {"w": S, "p": (WIDTH,)}),
    "made of what is made": (made_of_made, {"w": S, "p": (WIDTH,)}),
    "low rank": (low_rank, {"w": S, "a": (WIDTH, 2), "b": (2, WIDTH)}),
    "straight through": (straight_through, {"w": S}),
    "norm without gradient": (norm_without_gradient, {"w": S}),
    "direct maths": (maths, {"w": S}),
    "unbound": (unbound, {"w": S}),
}


@pytest.mark.parametrize("case", CASES)
def test_made_of_parameters_alone(case, private_comparison):
    run, shapes = CASES[case]
    found = private_comparison.compare(Net(run, **shapes), *batch_of())
    found.check()
    assert bool((found.squared > 1e-9).all())


@pytest.mark.parametrize("case", CASES)
def test_units_masks_single_and_bad_rows(case, private_comparison):
    run, shapes = CASES[case]
    net, (x, labels) = Net(run, **shapes), batch_of(6)
    weights = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.5, 0.5], dtype=f64)
    private_comparison.compare(net, x, labels, units=3, weights=weights).check()
    private_comparison.compare(net, *batch_of(1), learn_on=(x, labels)).check()
    x[3] = float("nan")
    private_comparison.compare(net, x, labels, learn_on=batch_of(6)).check()


def weight_norm():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(WIDTH, 4, dtype=f64)), nn.Tanh())


def weight_norm_conv():
    return nn.Sequential(parametrizations.weight_norm(nn.Conv1d(3, 4, 2, dtype=f64)), nn.Tanh())


def weight_norm_by_hooks():
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(WIDTH, 4, dtype=f64)), nn.Tanh())


def orthogonal():
    return nn.Sequential(
        parametrizations.orthogonal(nn.Linear(WIDTH, 4, dtype=f64), orthogonal_map="householder"), nn.Tanh()
    )


def orthogonal_by_exponential():
    return nn.Sequential(
        parametrizations.orthogonal(nn.Linear(WIDTH, WIDTH, dtype=f64), orthogonal_map="matrix_exp"), nn.Tanh()
    )


def spectral_norm_in_evaluation():
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(WIDTH, 4, dtype=f64)), nn.Tanh()).eval()


class Positive(nn.Module):
    def forward(self, weight):
        return weight.exp()


def own_parametrisation():
    net = nn.Sequential(nn.Linear(WIDTH, 4, dtype=f64), nn.Tanh())
    parametrize.register_parametrization(net[0], "weight", Positive())
    return net


PARAMETRISED = [
    weight_norm, weight_norm_conv, weight_norm_by_hooks, orthogonal, orthogonal_by_exponential,
    spectral_norm_in_evaluation, own_parametrisation,
]  # fmt: skip


@pytest.mark.parametrize("make", PARAMETRISED)
def test_torchs_parametrisations(make, private_comparison):
    torch.manual_seed(1)
    net = make()
    found = private_comparison.compare(net, *batch_of())
    found.check()
    private_comparison.compare(net, *batch_of(6), units=3).check()
    assert all(bool(value.any()) for value in found.sums.values())


# --- weight standardisation ------------------------------------------------------------------------------------------


class Standardised(nn.Module):
    """A convolution, or several uses of one, with standardised weights."""

    def __init__(self, uses=1, own_norm=False, **options):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(2, 4, 1, dtype=f64)
        self.conv = WSConv2d(4, 4, 3, dtype=f64, **{"padding": 1} | options)
        nn.init.normal_(self.conv.gain)
        self.uses, self.own_norm = uses, own_norm

    def forward(self, x):
        x = self.first(x)
        for _ in range(self.uses):
            x = self.conv(x).tanh()
        x = x.flatten(2).cumsum(2).tanh().sum(2)
        return x + self.conv.weight.square().sum() + self.conv.gain if self.own_norm else x


def images(rows=ROWS):
    return batch_of(rows, 2, 5, 5)


CONV = {
    "plain": {},
    "stride": {"stride": 2},
    "groups": {"groups": 2, "dilation": 2, "padding": 2},
    "same": {"padding": "same", "padding_mode": "reflect", "bias": False},
    "one position": {"padding": 0, "kernel_size": 5},
}


def standardised(option, **more):
    options = dict(CONV[option])
    size = options.pop("kernel_size", None)
    net = Standardised(**options, **more)
    if size is not None:
        net.conv = WSConv2d(4, 4, size, dtype=f64)
    return net


@pytest.mark.parametrize("option", CONV)
@pytest.mark.parametrize("way", ["gram", "kernel", "columns"])
def test_standardised_convolutions(way, option, private_comparison):
    found = private_comparison.compare(standardised(option), *images(), way=way)
    found.check()
    assert bool(found.sums["conv.gain"].any())
    assert found.ways["weight_standardise(conv.weight, conv.gain)"].startswith(way)


@pytest.mark.parametrize("frozen", ["conv.weight", "conv.gain"])
@pytest.mark.parametrize("way", ["gram", "kernel"])
def test_standardised_with_a_frozen_part(way, frozen, private_comparison):
    net = standardised("plain")
    net.get_parameter(frozen).requires_grad_(False)
    private_comparison.compare(net, *images(), way=way).check()


@pytest.mark.parametrize("more", [{"uses": 3}, {"own_norm": True}, {"uses": 2, "own_norm": True}])
@pytest.mark.parametrize("way", ["gram", "kernel"])
def test_standardised_and_used_in_other_ways(way, more, private_comparison):
    private_comparison.compare(standardised("plain", **more), *images(), way=way).check()


@pytest.mark.parametrize("way", ["gram", "kernel"])
def test_standardised_units_masks_single_and_bad_rows(way, private_comparison):
    net, (x, labels) = standardised("groups"), images(6)
    weights = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.5, 0.5], dtype=f64)
    private_comparison.compare(net, x, labels, units=3, weights=weights, way=way).check()
    private_comparison.compare(net, *images(1), learn_on=(x, labels), way=way).check()
    x[3] = float("inf")
    private_comparison.compare(net, x, labels, learn_on=images(6), way=way).check()


LINEAR = {
    "with gain": ({"w": S, "gain": (WIDTH,)}, lambda n, x: F.linear(x, weight_standardise(n.w, n.gain)).tanh().sum(1)),
    "without gain": ({"w": S}, lambda n, x: F.linear(x, weight_standardise(n.w, eps=1e-3)).tanh().sum(1)),
    "turned": ({"w": S, "gain": (WIDTH,)}, lambda n, x: F.linear(x, weight_standardise(n.w, n.gain).T).tanh().sum(1)),
    "left of data": (
        {"w": S, "gain": (WIDTH,)},
        lambda n, x: (weight_standardise(n.w, n.gain) @ x.transpose(1, 2)).tanh().sum(2),
    ),
    "of what is made": (
        {"w": S, "gain": (WIDTH,)},
        lambda n, x: F.linear(x, weight_standardise(n.w.tanh(), n.gain.exp())).tanh().sum(1),
    ),
    "one gain for two": (
        {"w": S, "v": S, "gain": (WIDTH,)},
        lambda n, x: F.linear(F.linear(x, weight_standardise(n.w, n.gain)), weight_standardise(n.v, n.gain)).sum(1),
    ),
    "one position": (
        {"w": S, "gain": (WIDTH,)},
        lambda n, x: F.linear(x[:, 0], weight_standardise(n.w, n.gain)).tanh(),
    ),
}


@pytest.mark.parametrize("case", LINEAR)
@pytest.mark.parametrize("way", ["gram", "product"])
def test_standardised_linear_maps(way, case, private_comparison):
    shapes, run = LINEAR[case]
    private_comparison.compare(Net(run, **shapes), *batch_of(), way=way).check()


def test_standardised_filters_have_mean_zero_and_the_gains_variance():
    weight, gain = torch.randn(4, 3, 3, 3, dtype=f64), torch.rand(4, dtype=f64) + 0.5
    found = weight_standardise(weight, gain, 0.0).flatten(1)
    torch.testing.assert_close(found.mean(1), torch.zeros(4, dtype=f64), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.var(1, correction=0), gain.square() / 27)


def test_a_state_dict_and_a_plain_forward_need_nothing_private():
    net = WSConv2d(2, 3, 3)
    assert set(net.state_dict()) == {"weight", "bias", "gain"}
    x = torch.randn(2, 2, 5, 5)
    torch.testing.assert_close(net(x), F.conv2d(x, weight_standardise(net.weight, net.gain), net.bias))
