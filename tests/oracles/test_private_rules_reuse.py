"""Weights used many times, in solver steps, with dropout, and where rivals go wrong without a word.

Each test named after a rival's defect would fail with the rival's behaviour.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

f64 = torch.float64
ROWS = STEPS = 5
WIDTH = 4


def batch_of(rows=ROWS, *shape):
    generator = torch.Generator().manual_seed(11)
    return torch.randn(rows, *(shape or (WIDTH,)), generator=generator, dtype=f64), torch.arange(rows) % 3


class Drift(nn.Module):
    """dx = f(x, t) dt by Euler's method, ten steps; f has two layers, a norm and a learned speed."""

    def __init__(self, steps=10, noise=False):
        super().__init__()
        torch.manual_seed(2)
        self.steps, self.noise = steps, noise
        self.first, self.second = nn.Linear(WIDTH + 1, 6, dtype=f64), nn.Linear(6, WIDTH, dtype=f64)
        self.norm, self.speed = nn.LayerNorm(6, dtype=f64), nn.Parameter(torch.tensor(0.5, dtype=f64))
        self.diffusion = nn.Parameter(torch.full((WIDTH,), 0.3, dtype=f64))

    def drift(self, time, x):
        times = time.expand(len(x), 1)
        return self.second(self.norm(self.first(torch.cat([x, times], dim=1)).tanh()))

    def forward(self, x):
        time, step = torch.zeros((), dtype=f64), 1.0 / self.steps
        for _ in range(self.steps):
            x = x + self.speed * self.drift(time, x) * step
            if self.noise:
                x = x + self.diffusion * torch.randn_like(x) * step**0.5
            time = time + step
        return x


class Images(nn.Module):
    """A convolution used in each of ten steps, with group normalisation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1, dtype=f64), nn.GroupNorm(1, 2, dtype=f64)

    def forward(self, x):
        for _ in range(10):
            x = x + 0.1 * self.conv(self.norm(x).relu_())
        return x.flatten(2).cumsum(2).tanh().sum(2).repeat(1, 2)


@pytest.mark.parametrize("way", ["gram", "product", "each"])
def test_ten_solver_steps(way, private_comparison):
    """FastDP keeps one activation for each layer: its clipped gradient was 7 to 33 times too long here."""
    found = private_comparison.compare(Drift(), *batch_of(), way=way)
    found.check()
    assert bool(found.sums["first.weight"].any())


@pytest.mark.parametrize("way", ["gram", "kernel"])
def test_ten_steps_of_a_convolution(way, private_comparison):
    private_comparison.compare(Images(), *batch_of(ROWS, 2, 4, 4), way=way).check()


def test_units_masks_single_and_bad_rows(private_comparison):
    net, (x, labels) = Drift(3), batch_of(6)
    weights = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.5, 0.5], dtype=f64)
    private_comparison.compare(net, x, labels, units=3, weights=weights).check()
    private_comparison.compare(net, *batch_of(1), learn_on=(x, labels)).check()
    x[3] = float("nan")
    private_comparison.compare(net, x, labels, learn_on=batch_of(6)).check()


def same_seed(net, batch, labels, comparison):
    """Squared norms of the engine, and of each of the batch's own losses by ordinary autograd, with one seed."""
    engine, rows = comparison.engine_for(net, batch, labels), len(labels)
    torch.manual_seed(1)
    squared, settled, _ = engine.gradients(lambda: comparison.loss_of(net(batch), labels), torch.ones(rows), rows)
    torch.manual_seed(1)
    losses, expected = comparison.loss_of(net(batch), labels), []
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    for row in range(rows):
        found = torch.autograd.grad(losses[row], list(parameters.values()), retain_graph=True, allow_unused=True)
        expected.append(torch.stack([torch.zeros((), dtype=f64) if g is None else g.square().sum() for g in found]))
        only = torch.zeros(rows, dtype=f64)
        only[row] = 1
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                torch.testing.assert_close(settled[name].weighted_sum(only), gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(squared, torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_a_stochastic_solver(private_comparison):
    same_seed(Drift(4, noise=True), *batch_of(), private_comparison)


@pytest.mark.parametrize("inplace", [False, True])
def test_dropout_between_and_around_parameters(inplace, private_comparison):
    torch.manual_seed(2)
    shared = nn.Linear(6, 6, dtype=f64)
    drop = nn.Dropout(0.4, inplace=inplace)
    net = nn.Sequential(nn.Linear(WIDTH, 6, dtype=f64), nn.Dropout(0.4), shared, drop, nn.Tanh(), shared, drop)
    same_seed(net.train(), *batch_of(), private_comparison)


# --- what rivals get wrong -------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two linear layers, a table and anything done with them."""

    def __init__(self, run):
        super().__init__()
        torch.manual_seed(2)
        self.a, self.b = nn.Linear(WIDTH, WIDTH, dtype=f64), nn.Linear(WIDTH, WIDTH, dtype=f64)
        self.p = nn.Parameter(torch.randn(WIDTH, dtype=f64))
        self.run = run

    def forward(self, x):
        return self.run(self, x)


RIVALS = {
    "FastDP 7: a layer used twice overwrites its activation": lambda n, x: n.a(n.a(x).tanh() * 3),
    "Opacus 4: functional weight tying": lambda n, x: F.linear(n.a(x).tanh(), n.a.weight),
    "Opacus 4: functional tying to the transpose": lambda n, x: F.linear(n.a(x).tanh(), n.a.weight.t()),
    "Opacus 4: direct maths next to a module": lambda n, x: n.a(x).tanh() @ n.a.weight * n.p + n.a.bias,
    "Opacus 10: four axes": lambda n, x: n.b(n.a(x.view(-1, 1, 2, 2, 1).expand(-1, 3, 2, 2, 4)).tanh()).sum((1, 2, 3)),
    "FastDP 5: registered in another order": lambda n, x: n.a(n.b(x).tanh()) * n.p,
    "FastDP 4: a layer without gradient": lambda n, x: n.b(x) + n.a(x).detach(),
    "FastDP 4: a layer that is not run": lambda n, x: n.b(x),
    "Opacus 16: in-place after a layer": lambda n, x: n.b(n.a(x).relu_()).tanh_(),
}


@pytest.mark.parametrize("case", RIVALS)
@pytest.mark.parametrize("way", ["gram", "product"])
def test_where_rivals_go_wrong(case, way, private_comparison):
    net = Net(RIVALS[case])
    found = private_comparison.compare(net, *batch_of(), way=way)
    found.check()
    clipped = sum(float(value.square().sum()) for value in found.sums.values()) ** 0.5
    assert clipped <= ROWS * private_comparison.MAX_GRAD_NORM * (1 + 1e-9)


class ByModules(nn.Module):
    """A linear layer whose very parameter another one holds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.a, self.b = nn.Linear(WIDTH, WIDTH, dtype=f64), nn.Linear(WIDTH, WIDTH, bias=False, dtype=f64)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x).tanh())


@pytest.mark.parametrize("way", ["gram", "product"])
def test_ghost_norms_through_tied_modules(way, private_comparison):
    """Opacus ghost and FastDP refuse these, or clip each use alone: the cross term of the two uses is missing then."""
    net, (x, labels) = ByModules(), batch_of()
    found = private_comparison.compare(net, x, labels, way=way)
    found.check()
    losses = private_comparison.loss_of(net(x), labels)
    hidden = net.a(x).tanh().detach().requires_grad_()
    second = torch.autograd.grad(private_comparison.loss_of(net.b(hidden), labels)[0], net.b.weight)[0]
    whole = torch.autograd.grad(losses[0], net.a.weight)[0]
    apart = second.square().sum() + (whole - second).square().sum()
    assert abs(float(apart - whole.square().sum())) > 1e-6  # so that a norm without the cross term would be seen


@pytest.mark.parametrize("frozen", ["first.weight", "second.bias", "norm.weight", "speed"])
def test_frozen_parts_of_a_solver(frozen, private_comparison):
    net = Drift(3)
    net.get_parameter(frozen).requires_grad_(False)
    private_comparison.compare(net, *batch_of()).check()


def test_buffers_between_passes_are_not_mixed_up(private_comparison):
    """Kept memory of one batch size serves another one, and what was in it does not leak into the next."""
    net, (x, labels) = Drift(3), batch_of(6)
    engine = private_comparison.engine_for(net, x, labels, way="product")
    for rows in (6, 2, 5, 6):
        sums = {}
        engine.add(
            lambda rows=rows: private_comparison.loss_of(net(x[:rows]), labels[:rows]),
            torch.ones(rows), rows, private_comparison.clip, sums,
        )  # fmt: skip
        _, expected = private_comparison.looped(net, x[:rows], labels[:rows], rows, torch.ones(rows, dtype=f64))
        for name, value in sums.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12)
