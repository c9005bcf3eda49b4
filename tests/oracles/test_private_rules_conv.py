"""Gradients of each unit through convolutions, against a loop over single examples in float64."""

from itertools import product

import pytest
import torch
from torch import nn

from sfumato.private.rules.conv import ConvWeight, Geometry

KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
SIDES = {1: (9,), 2: (6, 7), 3: (5, 6, 5)}
MODES = ("zeros", "reflect", "replicate", "circular")
WAYS = {1: ("kernel",), 2: ("kernel", "columns", "rows", "gram"), 3: ("kernel",)}
OPTIONS = {
    "plain": {"kernel_size": 3},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilation": {"kernel_size": 2, "dilation": 2},
    "groups": {"kernel_size": 2, "groups": 2},
    "depthwise": {"kernel_size": 2, "groups": 4},
    "same": {"kernel_size": 3, "padding": "same"},
    "same, even kernel": {"kernel_size": 2, "padding": "same"},
    "same, even and dilated": {"kernel_size": 2, "padding": "same", "dilation": 3},
    "valid": {"kernel_size": 2, "padding": "valid", "bias": False},
    "all": {"kernel_size": 2, "stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": False},
}
SCENARIOS = (
    "plain", "first", "one example", "rows per unit", "not finite", "masked", "frozen weight", "frozen bias"
)  # fmt: skip


def cases(axes):
    return [(option, way) for option in OPTIONS for way in WAYS[axes]]


@pytest.mark.parametrize(("option", "way"), cases(2))
def test_conv2d(private_comparison, option, way):
    private_comparison.check_layer(lambda: nn.Conv2d(4, 4, **OPTIONS[option]), (4, 6, 7), way=way)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("axes", [1, 3])
def test_conv1d_and_conv3d(private_comparison, axes, option):
    """FastDP: three axes are promised, and not there."""
    private_comparison.check_layer(lambda: KINDS[axes](4, 4, **OPTIONS[option]), (4, *SIDES[axes]))


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("way", WAYS[2])
def test_conv2d_in_every_situation(private_comparison, scenario, way):
    private_comparison.check_layer(lambda: nn.Conv2d(4, 2, 3, padding=1), (4, 4, 5), scenario, way=way)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv_used_twice(private_comparison, axes):
    """FastDP: reused layers overwrite what they stored, and the clip bound fails."""
    private_comparison.check_layer(lambda: KINDS[axes](4, 4, 3, padding=1), (4, *SIDES[axes]), "reused")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_padding_mode(private_comparison, axes, padding, mode):
    """Opacus: "padding_mode" is ignored, so that norms are of another convolution."""
    private_comparison.check_layer(lambda: KINDS[axes](4, 4, 2, padding=padding, padding_mode=mode), (4, *SIDES[axes]))


@pytest.mark.parametrize("way", WAYS[2])
@pytest.mark.parametrize("mode", MODES)
def test_channels_last(private_comparison, mode, way):
    """Opacus: "channels_last" activations are unfolded with the wrong strides."""

    def prepared(x):
        return x.contiguous(memory_format=torch.channels_last)

    for scenario in ("plain", "first"):
        private_comparison.check_layer(
            lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode=mode).to(memory_format=torch.channels_last),
            (4, 5, 6), scenario, way=way, prepare=prepared,
        )  # fmt: skip


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("way", WAYS[2])
def test_grouped_conv_never_makes_the_product_across_groups(private_comparison, groups, way):
    """Opacus: a "grouped conv" builds all pairs of channels; FastDP scrambles them."""
    private_comparison.check_layer(lambda: nn.Conv2d(4, 8, 3, groups=groups), (4, 5, 5), way=way)
    seen, grad = torch.randn(2, 4, 5, 5), torch.randn(2, 8, 3, 3)
    term = ConvWeight(seen, torch.empty(8, 4 // groups, 3, 3), Geometry((1, 1), (0, 0), (1, 1), groups))
    if way != "gram":
        assert term.instantiate(grad, 2, way).numel() == 2 * 8 * 4 // groups * 9


@pytest.mark.parametrize("options", [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 2, "dilation": 2, "groups": 2, "bias": False},
])  # fmt: skip
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("scenario", ["plain", "first", "rows per unit", "not finite"])
def test_transposed(private_comparison, axes, options, scenario):
    private_comparison.check_layer(lambda: TRANSPOSED[axes](4, 4, **options), (4, *(3,) * axes), scenario)


def test_in_place_activation_after_a_convolution(private_comparison):
    """Opacus: full-backward hooks make outputs views, and an in-place ReLU raises."""
    private_comparison.check_layer(lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)), (4, 5, 5), "first")


def combined():
    for axes, size, stride, dilation, groups, mode in product((1, 2, 3), (2, 3), (1, 2), (1, 2), (1, 2), MODES):
        paddings = (0, 1, (2, 1, 1)[:axes]) if stride > 1 else (0, 1, "same", "valid")
        for padding in paddings:
            yield axes, {
                "kernel_size": size, "stride": stride, "dilation": dilation, "groups": groups, "padding": padding,
                "padding_mode": mode, "bias": size == 2,
            }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["plain", "first", "rows per unit"])
@pytest.mark.parametrize("part", range(6))
def test_all_options_together(private_comparison, scenario, part):
    for number, (axes, options) in enumerate(combined()):
        if number % 6 == part:
            for way in WAYS[axes]:
                make = lambda: KINDS[axes](4, 4, **options)  # noqa: B023, E731 - called at once
                private_comparison.check_layer(make, (4, *SIDES[axes]), scenario, way=way)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_all_transposed_options_together(private_comparison, axes):
    for size, stride, dilation, groups, padding in product((2, 3), (1, 2), (1, 2), (1, 2), (0, 1)):
        options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding}
        make = lambda: TRANSPOSED[axes](4, 4, size, output_padding=stride - 1, **options)  # noqa: B023, E731 - as above
        for scenario in ("plain", "rows per unit"):
            private_comparison.check_layer(make, (4, *(4,) * axes), scenario)
