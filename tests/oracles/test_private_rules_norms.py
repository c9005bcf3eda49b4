"""Gradients of each unit through normalisation layers, against a loop over single examples in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import NotPrivateError

IMAGE, WORDS = (4, 3, 5), (3, 4)


class OfTorch(nn.Module):
    """A function of `torch` itself in place of `torch.nn.functional`, with scale and shift."""

    def __init__(self, function, channels):
        super().__init__()
        self.function, self.weight, self.bias = (
            function,
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.ones(channels)),
        )

    def forward(self, x):
        return self.function(x, self.weight, self.bias)


def frozen(layer):
    return layer.eval()


def torch_batch_norm(x, weight, bias):
    return torch.batch_norm(x, weight, bias, x.new_full((4,), 0.3), x.new_full((4,), 2.0), False, 0.1, 1e-5, False)


def torch_instance_norm(x, weight, bias):
    return torch.instance_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False)


LAYERS = {
    "layer": (lambda: nn.LayerNorm(4), WORDS),
    "layer, rows of features": (lambda: nn.LayerNorm(4), (4,)),
    "layer, several axes": (lambda: nn.LayerNorm((3, 4), eps=0.1), (2, 3, 4)),
    "layer, no bias": (lambda: nn.LayerNorm(4, bias=False), WORDS),
    "layer, of torch": (lambda: OfTorch(lambda x, w, b: torch.layer_norm(x, (4,), w, b), 4), WORDS),
    "rms": (lambda: nn.RMSNorm(4), WORDS),
    "rms, several axes": (lambda: nn.RMSNorm((3, 4), eps=0.1), (2, 3, 4)),
    "group": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "group, one": (lambda: nn.GroupNorm(1, 4, eps=0.1), (4,)),
    "group, of torch": (lambda: OfTorch(lambda x, w, b: torch.group_norm(x, 2, w, b), 4), IMAGE),
    "instance, 1d": (lambda: nn.InstanceNorm1d(4, affine=True), (4, 6)),
    "instance, 2d": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "instance, 3d": (lambda: nn.InstanceNorm3d(4, affine=True), (4, 2, 2, 3)),
    "instance, frozen": (lambda: frozen(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)), IMAGE),
    "instance, of torch": (lambda: OfTorch(torch_instance_norm, 4), IMAGE),
    "batch, frozen 1d": (lambda: frozen(nn.BatchNorm1d(4)), (4,)),
    "batch, frozen 2d": (lambda: frozen(nn.BatchNorm2d(4)), IMAGE),
    "batch, frozen 3d": (lambda: frozen(nn.BatchNorm3d(4)), (4, 2, 2, 3)),
    "batch, of torch": (lambda: OfTorch(torch_batch_norm, 4), IMAGE),
}  # fmt: skip
SCENARIOS = (
    "plain", "first", "reused", "one example", "rows per unit", "not finite", "masked", "frozen weight", "frozen bias"
)  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_norms_equal_a_loop_over_single_examples(private_comparison, layer, scenario):
    make, shape = LAYERS[layer]
    compared = private_comparison.check_layer(make, shape, scenario)
    if scenario == "not finite":
        assert not compared.squared[1].isfinite()


def test_layer_norm_without_bias(private_comparison):
    """Opacus: "LayerNorm bias=False" dereferences None."""
    compared = private_comparison.check_layer(lambda: nn.LayerNorm(4, bias=False), WORDS)
    assert "layer.weight" in compared.ways
    assert "layer.bias" not in compared.ways


@pytest.mark.parametrize("layer", ["layer", "rms"])
def test_time_before_batch(private_comparison, layer):
    make, _ = LAYERS[layer]

    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = make()

        def forward(self, x):
            return self.norm(x.transpose(0, 1)).transpose(0, 1)

    private_comparison.check_layer(TimeFirst, (4, 4))


@pytest.mark.parametrize("order", ["row after row", "time after time"])
def test_rows_folded_with_time(private_comparison, order):
    """Group norm over [rows * time, channels, ...], as networks for video fold it."""

    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x):
            if order == "row after row":
                return self.norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            return self.norm(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (x.shape[1], -1)).transpose(0, 1)

    private_comparison.check_layer(Folded, (3, 4, 5))


@pytest.mark.parametrize("layer", ["group", "instance, 2d", "batch, frozen 2d"])
def test_channels_last(private_comparison, layer):
    """Opacus: "channels_last" activations are read with the wrong strides."""
    make, shape = LAYERS[layer]

    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = make()

        def forward(self, x):
            return self.norm(x.contiguous(memory_format=torch.channels_last))

    private_comparison.check_layer(ChannelsLast, shape)


@pytest.mark.parametrize("layer", ["group", "layer"])
def test_in_place_activation_after_a_norm(private_comparison, layer):
    """Opacus: full-backward hooks make outputs views, and an in-place ReLU raises."""
    make, shape = LAYERS[layer]
    private_comparison.check_layer(lambda: nn.Sequential(make(), nn.ReLU(inplace=True)), shape)


def test_rms_norm_of_a_sequence(private_comparison):
    """FastDP: the clipping function of its RMS norm leaves the batch dimension."""
    compared = private_comparison.check_layer(lambda: nn.RMSNorm(4), (5, 4), "rows per unit")
    assert compared.squared.shape == (2,)


@pytest.mark.parametrize("function", [F.layer_norm, F.group_norm, F.rms_norm])
def test_a_scale_computed_from_data_keeps_its_gradient(private_comparison, function):
    """It mixes the examples of a batch, which the probe refuses; of one example it is exact."""

    class Adaptive(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias, self.inner = nn.Parameter(torch.rand(4)), nn.Linear(4, 4)

        def forward(self, x):
            scale = 1 + self.inner(x).mean(dim=tuple(range(x.dim() - 1)))
            if function is F.rms_norm:
                return F.rms_norm(x + self.bias, (4,), scale)
            kind = 2 if function is F.group_norm else (4,)
            return function(x.movedim(-1, 1) if kind == 2 else x, kind, scale, self.bias)

    private_comparison.check_layer(Adaptive, WORDS, "one example")


def test_a_scale_computed_from_parameters(private_comparison):
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias, self.scale = nn.Parameter(torch.ones(4)), nn.Parameter(torch.rand(4))

        def forward(self, x):
            return F.layer_norm(x, (4,), self.scale * 2.0, self.bias)

    private_comparison.check_layer(Doubled, WORDS)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)])
def test_running_statistics_in_training_are_refused(private_comparison, layer):
    with pytest.raises(NotPrivateError):
        private_comparison.check_layer(lambda: layer, IMAGE)


def test_torch_batch_norm_in_training_is_refused(private_comparison):
    def mixing(x, weight, bias):
        return torch.batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False)

    with pytest.raises(NotPrivateError, match="batch normalisation"):
        private_comparison.check_layer(lambda: OfTorch(mixing, 4), IMAGE)


@pytest.mark.parametrize("layer", ["group", "layer"])
def test_autocast_keeps_norms_of_layers_in_full_precision(private_comparison, layer):
    """Under autocast the kernels see what torch's own would; sums are in float32."""
    make, shape = LAYERS[layer]
    torch.manual_seed(0)
    norm = make()
    private_comparison.spread(norm)
    x, y = torch.randn(4, *shape), torch.randint(0, 3, (4,))
    net = private_comparison.Around(norm, x)

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.net(x).float()

    compared = private_comparison.compare(Mixed(), x, y, weights=torch.ones(4))
    compared.check(2e-2)
    assert all(value.dtype == torch.float32 for value in compared.sums.values())
