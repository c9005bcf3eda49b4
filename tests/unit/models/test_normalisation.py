import pytest
from torch import nn

from sfumato.models.normalisation import groups_of, normalisation


@pytest.mark.parametrize(
    ("channels", "groups"), [(16, 4), (32, 8), (64, 16), (256, 16), (12, 2), (7, 1), (1, 1), (4, 1)]
)
def test_groups_divide_the_channels_and_keep_four_in_each(channels, groups):
    assert groups_of(channels) == groups


def test_layers_by_name():
    assert isinstance(normalisation("batch", 8), nn.BatchNorm2d)
    assert normalisation("group", 32).num_groups == 8
