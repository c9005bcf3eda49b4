import pytest
import torch

from sfumato.errors import UsageError
from sfumato.models.standardise import Standardise


def test_tables_by_feature():
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    layer = Standardise(x.mean(0), x.std(0, correction=0))
    assert torch.equal(layer(x), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))


def test_images_by_channel():
    x = torch.rand(6, 3, 4, 5, dtype=torch.float64)
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)
    out = Standardise(mean, std)(x)
    for channel in range(3):
        assert torch.allclose(out[:, channel], (x[:, channel] - mean[channel]) / std[channel])


def test_a_constant_feature_is_only_centred_also_when_its_deviation_is_rounding():
    layer = Standardise(torch.tensor([5.0, 0.1]).double(), torch.tensor([0.0, 1e-17]).double())
    assert torch.allclose(layer(torch.tensor([[7.0, 0.2]]).double()), torch.tensor([[2.0, 0.1]]).double())


def test_a_small_but_real_deviation_is_used():
    assert float(Standardise(torch.tensor([0.0]), torch.tensor([1e-12]))(torch.tensor([[1e-12]]))) == pytest.approx(1.0)


def test_statistics_are_buffers_and_not_trained():
    layer = Standardise(torch.zeros(2), torch.ones(2))
    assert list(layer.parameters()) == []
    assert set(layer.state_dict()) == {"mean", "std"}


@pytest.mark.parametrize("std", [torch.ones(3), torch.tensor([1.0, -1.0]), torch.tensor([1.0, float("nan")])])
def test_bad_statistics_are_refused(std):
    with pytest.raises(UsageError, match="std"):
        Standardise(torch.zeros(2), std)
