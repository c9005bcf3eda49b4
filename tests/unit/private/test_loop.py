"""The loop of single examples: clips whole units, leaves out what is not finite, and leaves nothing behind."""

import pytest
import torch
from torch import nn

from sfumato.errors import NotPrivateError
from sfumato.private.loop import Loop

f64 = torch.float64


class Net(nn.Module):
    def __init__(self, dtype=f64):
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = nn.Linear(4, 5, dtype=dtype), nn.Linear(5, 3, dtype=dtype)
        self.never = nn.Parameter(torch.ones(2, dtype=dtype))

    def forward(self, x):
        return self.second(self.first(x).relu_())


def batch_of(rows=6, dtype=f64):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, 4, generator=generator, dtype=dtype), torch.arange(rows) % 3


def added(net, tensors, weights, units, comparison, sums=None, factors=None):
    sums = {} if sums is None else sums
    loss = lambda rows: comparison.loss_of(net(rows[0]), rows[1])  # noqa: E731
    return Loop(net).add(loss, tensors, weights, units, factors or comparison.clip, sums), sums


@pytest.mark.parametrize("units", [6, 3, 2, 1])
def test_units_of_several_rows(units, private_comparison):
    net, (x, labels) = Net(), batch_of()
    weights = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.25, 0.75], dtype=f64)
    clipped, sums = added(net, (x, labels), weights, units, private_comparison)
    squared, expected = private_comparison.looped(net, x, labels, units, weights)
    torch.testing.assert_close(clipped.squared.sum(1), squared, rtol=1e-10, atol=1e-13)
    for name, value in expected.items():
        torch.testing.assert_close(sums.get(name, torch.zeros_like(value)), value, rtol=1e-10, atol=1e-13)
    losses = private_comparison.loss_of(net(x), labels)
    torch.testing.assert_close(clipped.loss, (losses * weights).sum().detach())


def test_it_agrees_with_the_engine(private_comparison):
    net, (x, labels) = Net(), batch_of()
    found = private_comparison.compare(net, x, labels)
    clipped, sums = added(net, (x, labels), torch.ones(6), 6, private_comparison)
    torch.testing.assert_close(clipped.squared.sum(1), found.squared, rtol=1e-10, atol=1e-13)
    for name, value in sums.items():
        torch.testing.assert_close(value, found.sums[name], rtol=1e-10, atol=1e-13)


def test_sums_go_on(private_comparison):
    net, batch = Net(), batch_of()
    _, once = added(net, batch, torch.ones(6), 6, private_comparison)
    _, twice = added(net, batch, torch.ones(6), 6, private_comparison)
    added(net, batch, torch.ones(6), 6, private_comparison, twice)
    for name, value in once.items():
        torch.testing.assert_close(twice[name], 2 * value)


def test_padding_is_not_run_and_unused_parameters_have_no_sum(private_comparison):
    net, (x, labels) = Net(), batch_of()
    x[3] = float("nan")
    weights = torch.tensor([1.0, 1, 1, 0, 1, 1])
    clipped, sums = added(net, (x, labels), weights, 6, private_comparison)
    assert clipped.squared[3].sum() == 0
    assert bool(clipped.squared.isfinite().all())
    assert "never" not in sums
    assert all(bool(value.isfinite().all()) for value in sums.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_counts_as_zero_and_is_reported(bad, private_comparison):
    net, (x, labels) = Net(), batch_of()
    keep = [0, 1, 2, 4, 5]
    _, expected = added(net, (x[keep], labels[keep]), torch.ones(5), 5, private_comparison)
    x[3] = bad
    clipped, sums = added(net, (x, labels), torch.ones(6), 6, private_comparison)
    assert clipped.squared.isfinite().all(dim=1).tolist() == [row != 3 for row in range(6)]
    for name, value in expected.items():
        torch.testing.assert_close(sums[name], value)


def test_factors_see_one_unit_and_all_parameters(private_comparison):
    net, shapes = Net(), []

    def factors(squared):
        shapes.append(tuple(squared.shape))
        return torch.zeros_like(squared) + torch.arange(squared.shape[1])

    _, sums = added(net, batch_of(), torch.ones(6), 6, private_comparison, factors=factors)
    assert shapes == [(1, len(list(net.parameters())))] * 6
    names = [name for name, _ in net.named_parameters()]
    losses = private_comparison.loss_of(net(batch_of()[0]), batch_of()[1]).sum()
    gradients = torch.autograd.grad(losses, [p for n, p in net.named_parameters() if n in sums])
    for name, gradient in zip([n for n in names if n in sums], gradients, strict=True):
        torch.testing.assert_close(sums[name], gradient * names.index(name), rtol=1e-10, atol=1e-13)


def test_sums_are_float32_or_better_and_gradients_are_left_empty(private_comparison):
    net, (x, labels) = Net(torch.bfloat16), batch_of(dtype=torch.bfloat16)
    net.first.weight.grad = torch.ones_like(net.first.weight)
    _, sums = added(net, (x, labels), torch.ones(6), 6, private_comparison)
    assert {value.dtype for value in sums.values()} == {torch.float32}
    assert all(parameter.grad is None for parameter in net.parameters())


def test_losses_must_be_one_per_row(private_comparison):
    net, batch = Net(), batch_of()
    with pytest.raises(NotPrivateError, match="one loss per row"):
        Loop(net).add(lambda rows: net(rows[0]).sum(), batch, torch.ones(6), 6, private_comparison.clip, {})
