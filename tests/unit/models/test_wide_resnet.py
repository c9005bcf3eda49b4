import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.weight_standardisation import WSConv2d
from sfumato.models.wide_resnet import WideBlock, WideResNet


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_known_sizes():
    # the paper's table 5 gives 8.9 M for WRN-40-4
    assert size(WideResNet().build((3, 32, 32), 10)) == 2_748_890
    assert round(size(WideResNet(depth=40).build((3, 32, 32), 10)) / 1e6, 1) == 8.9


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_norms(norm):
    model = WideResNet(depth=10, width=1, norm=norm).build((1, 8, 8), 3)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == (norm == "batch")


def test_each_stage_after_the_first_halves_the_sides():
    before_pooling = WideResNet(depth=10, width=2).build((3, 32, 32), 10)[:-3]
    assert before_pooling(torch.zeros(2, 3, 32, 32)).shape == (2, 128, 8, 8)


def test_dropout_is_one_layer_per_block():
    model = WideResNet(depth=16, width=1, dropout=0.3).build((3, 32, 32), 10)
    assert len([layer for layer in model.modules() if isinstance(layer, nn.Dropout)]) == 6


def test_all_filters_are_standardised_on_request():
    for asked in (True, False):
        model = WideResNet(depth=10, width=1, weight_standardisation=asked).build((3, 8, 8), 10)
        convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
        assert {type(layer) for layer in convolutions} == {WSConv2d if asked else nn.Conv2d}
        assert len(convolutions) == 1 + 3 * 2 + 2


def test_block_with_zero_residual_is_the_shortcut():
    same, wider = WideBlock(4, 4, 1, "group", 0.0), WideBlock(4, 8, 2, "group", 0.0)
    for block in (same, wider):
        nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(same(x), x)
    assert torch.equal(wider(x), wider.projection(wider.activation(x)))


@pytest.mark.parametrize("bad", [{"depth": 17}, {"depth": 4}, {"width": 0}, {"norm": "x"}, {"dropout": -0.1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        WideResNet(**bad)


def test_tables_are_refused():
    with pytest.raises(UnsupportedModel, match="wide-resnet"):
        WideResNet().build((30,), 2)
