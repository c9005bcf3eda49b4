"""Gradients of each unit through linear maps, against a loop over single examples in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

SHAPES = {"[rows, d]": (4,), "[rows, T, d]": (3, 4), "[rows, H, W, d]": (2, 3, 4), "five axes": (2, 1, 2, 4)}
SCENARIOS = (
    "plain", "first", "reused", "one example", "rows per unit", "not finite", "masked", "frozen weight", "frozen bias"
)  # fmt: skip
WAYS = ("gram", "product", "each")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_equals_a_loop_over_single_examples(private_comparison, shape, scenario, way):
    private_comparison.check_layer(lambda: nn.Linear(4, 4), SHAPES[shape], scenario, way=way)


@pytest.mark.parametrize("way", WAYS)
def test_no_bias(private_comparison, way):
    private_comparison.check_layer(lambda: nn.Linear(4, 6, bias=False), (3, 4), way=way)


@pytest.mark.parametrize("way", WAYS)
def test_inputs_of_four_axes(private_comparison, way):
    """Opacus: "4-D linear input" gets no ghost norm, then a crash."""
    compared = private_comparison.check_layer(lambda: nn.Linear(4, 6), (3, 2, 4), way=way)
    assert compared.ways["layer.weight"] == way


@pytest.mark.parametrize("way", WAYS)
def test_time_before_batch(private_comparison, way):
    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.inner(x.transpose(0, 1)).transpose(0, 1)

    private_comparison.check_layer(TimeFirst, (4, 4), way=way)


@pytest.mark.parametrize("order", ["row after row", "time after time"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_folded_with_time(private_comparison, order, way):
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            if order == "row after row":
                return self.inner(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return self.inner(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (x.shape[1], -1)).transpose(0, 1)

    private_comparison.check_layer(Folded, (3, 4), "rows per unit", way=way)


@pytest.mark.parametrize("way", WAYS)
def test_uses_that_no_module_hook_sees(private_comparison, way):
    """Opacus: a functional use beside the module's misses from its ghost norm, and the clip bound fails."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.inner(x) + F.linear(torch.sin(x), self.inner.weight) + 3 * x @ self.inner.weight

    private_comparison.check_layer(Beside, (3, 4), way=way)


@pytest.mark.parametrize("way", WAYS)
def test_two_tensors_made_of_one_weight_in_the_same_way(private_comparison, way):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            return x @ self.w.T + torch.sin(x) @ self.w.T + x**2 @ (self.w * 2) + torch.cos(x) @ (self.w * 2)

    private_comparison.check_layer(Twice, (3, 4), way=way)


def test_layers_that_run_in_another_order_than_registered(private_comparison):
    """FastDP: clipping fires at the first registered layer, and later norms miss."""

    class Reordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.middle, self.first = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            return self.last(torch.tanh(self.middle(torch.tanh(self.first(x)))))

    private_comparison.check_layer(Reordered, (4,))


def test_a_layer_without_use_counts_as_zero_and_stays(private_comparison):
    """FastDP: a parameter without a private gradient in one step is dropped for good."""

    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.always, self.sometimes, self.on = nn.Linear(4, 4), nn.Linear(4, 4), False

        def forward(self, x):
            return self.always(x) + self.sometimes(x) if self.on else self.always(x)

    def make(on):
        layer = Sometimes()
        layer.on = on
        return layer

    off = private_comparison.check_layer(lambda: make(False), (4,))
    assert not off.sums["layer.sometimes.weight"].any()
    on = private_comparison.check_layer(lambda: make(True), (4,))
    assert on.sums["layer.sometimes.weight"].any()


@pytest.mark.parametrize("way", WAYS)
def test_an_example_that_is_not_finite_counts_as_zero_everywhere(private_comparison, way):
    """Opacus: no guard, so that one "NaN example" poisons the step."""
    compared = private_comparison.check_layer(lambda: nn.Linear(4, 4), (3, 4), "not finite", way=way)
    assert not compared.squared[1].isfinite()
    assert all(total.isfinite().all() for total in compared.sums.values())


def test_cancelling_positions_do_not_round_below_the_truth(private_comparison):
    """FastDP: the root of a Gram sum that rounds below zero is not a number."""
    torch.manual_seed(0)
    seen = torch.randn(8, 1, 16).repeat(1, 2, 1) * 1e3
    sign = torch.tensor([1.0, -1.0]).view(1, 2, 1)

    class Cancelling(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(16, 3)

        def forward(self, x):
            return (self.inner(x) * sign * (1 + 1e-6 * x[:, :, :1])).sum(1)

    y = torch.randint(0, 3, (8,))
    net = Cancelling()
    compared = private_comparison.compare(net, seen, y, way="gram", weights=torch.ones(8))
    truth = private_comparison.compare(net.double(), seen.double(), y, way="product").squared
    assert compared.squared.isfinite().all()
    assert (compared.squared >= truth.float() * (1 - 1e-4)).all()
