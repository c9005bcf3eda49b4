import pytest
import torch

from sfumato.errors import UsageError
from sfumato.models.channel_whitening import ChannelWhitening


def test_the_map_is_the_formula():
    layer = ChannelWhitening((3, 2, 2), keep=2, norm=5.0)
    generator = torch.Generator().manual_seed(0)
    mean, matrix = torch.randn(3, 4, generator=generator), torch.randn(2, 3, generator=generator)
    layer.load_state_dict({"mean": mean, "matrix": matrix})
    x = torch.randn(6, 3, 2, 2, generator=generator)
    for record, out in zip(x, layer(x), strict=True):
        a = (record / record.norm()).reshape(3, 4)
        b = matrix @ (a - mean)
        assert torch.allclose(out, (5 * b / b.norm()).reshape(2, 2, 2), atol=1e-5)


def test_tables_have_one_position_and_nothing_is_trained():
    layer = ChannelWhitening((4,), keep=4, norm=1.0)
    assert layer(torch.rand(3, 4)).shape == (3, 4)
    assert list(layer.parameters()) == []
    with pytest.raises(UsageError, match="at least 5 channels"):
        ChannelWhitening((4,), keep=5, norm=1.0)
