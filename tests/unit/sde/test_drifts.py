import pytest
import torch
import torch.nn.functional as F

from sfumato.sde.drifts.convolutional import ConvDrift, TimeConv2d, group_norm
from sfumato.sde.drifts.dense import DenseDrift


def test_the_time_plane_is_that_of_one_convolution_over_state_and_plane():
    """As in the torchdiffeq example: a constant plane is joined to the channels, and padded with zeros like them."""
    torch.manual_seed(0)
    layer = TimeConv2d(3).double()
    h = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    joined = torch.cat([layer.conv.weight, layer.time.weight], dim=1)
    for t in (0.0, 0.7):
        plane = torch.full((2, 1, 4, 5), t, dtype=torch.float64)
        expected = F.conv2d(torch.cat([h, plane], dim=1), joined, layer.conv.bias, padding=1)
        torch.testing.assert_close(layer(t, h), expected, rtol=1e-10, atol=1e-10)
    sizes = [p.numel() for p in layer.parameters()]
    assert sum(sizes) == 4 * 9 * 3 + 3
    largest = max(float(p.detach().abs().max()) for p in layer.parameters())
    assert 0.9 * (9 * 4) ** -0.5 < largest <= (9 * 4) ** -0.5


@pytest.mark.parametrize(("make", "shape"), [(lambda: ConvDrift(6), (6, 5, 4)), (lambda: DenseDrift(6, 9), (6,))])
def test_time_matters_records_stay_apart_and_the_shape_is_kept(make, shape):
    torch.manual_seed(0)
    drift, h = make().double(), torch.randn(3, *shape, dtype=torch.float64)
    out = drift(0.25, h)
    assert (out.shape, out.dtype) == (h.shape, torch.float64)
    assert not torch.allclose(out, drift(0.5, h))
    changed = torch.cat([h[:1], 9 * h[1:]])
    torch.testing.assert_close(drift(0.25, changed)[:1], out[:1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (256, 32), (16, 16), (48, 24), (37, 1), (1, 1)])
def test_group_norm_has_at_most_32_groups_and_they_divide(channels, groups):
    assert group_norm(channels).num_groups == groups
