import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.resnet import ResidualBlock, ResNet8, ResNet18, ResNet20, ZeroPaddedShortcut


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# He et al. (2016) state 0.27 M for ResNet-20 and 11.17 M is the widely used ResNet-18 with a CIFAR stem
@pytest.mark.parametrize(
    ("family", "parameters"), [(ResNet8(), 75_290), (ResNet20(), 269_722), (ResNet18(), 11_173_962)]
)
def test_known_sizes(family, parameters):
    assert size(family.build((3, 32, 32), 10)) == parameters


@pytest.mark.parametrize(("family", "layers"), [(ResNet8(), 8), (ResNet20(), 20), (ResNet18(width=4), 18)])
def test_the_number_of_layers_is_in_the_name(family, layers):
    model = family.build((3, 32, 32), 10)
    weighted = [layer for layer in model.modules() if isinstance(layer, nn.Linear) or _is_3x3(layer)]
    assert len(weighted) == layers


def _is_3x3(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)


@pytest.mark.parametrize("family", [ResNet8, ResNet20, ResNet18])
def test_group_norm_leaves_no_batch_norm(family):
    model = family(norm="group", width=8).build((1, 16, 16), 2)
    kinds = {type(layer) for layer in model.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


def test_width_scales_the_stages():
    model = ResNet8(width=8).build((3, 32, 32), 10)
    assert model[-1].in_features == 32


@pytest.mark.parametrize(
    ("family", "features"),
    [(ResNet8(width=4), (16, 8, 8)), (ResNet20(width=4), (16, 8, 8)), (ResNet18(width=4), (32, 4, 4))],
)
def test_each_stage_after_the_first_halves_the_sides(family, features):
    before_pooling = family.build((3, 32, 32), 10)[:-3]
    assert before_pooling(torch.zeros(2, 3, 32, 32)).shape == (2, *features)


def test_block_with_zero_residual_is_the_shortcut():
    block = ResidualBlock(4, 8, 2, "group", projection=False)
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.rand(2, 4, 9, 9)
    out = block(x)
    assert torch.equal(out[:, :4], x[:, :, ::2, ::2])
    assert torch.equal(out[:, 4:], torch.zeros(2, 4, 5, 5))


def test_zero_padded_shortcut_has_no_parameters():
    assert list(ZeroPaddedShortcut(4, 2).parameters()) == []


def test_projection_shortcut_only_where_the_shape_changes():
    assert isinstance(ResidualBlock(4, 4, 1, "batch", projection=True).shortcut, nn.Identity)
    assert isinstance(ResidualBlock(4, 8, 2, "batch", projection=True).shortcut[0], nn.Conv2d)


@pytest.mark.parametrize("bad", [{"width": 0}, {"norm": "layer"}])
@pytest.mark.parametrize("family", [ResNet8, ResNet20, ResNet18])
def test_bad_settings_are_refused(family, bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        family(**bad)


def test_tables_are_refused():
    with pytest.raises(UnsupportedModel, match="resnet-20"):
        ResNet20().build((30,), 2)
