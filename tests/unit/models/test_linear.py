import pytest
import torch

from sfumato.errors import UsageError
from sfumato.models.linear import LinearModel


def test_it_is_one_linear_layer_that_can_start_at_zero():
    model = LinearModel(start="zero").build((2, 3), 4)
    assert sum(p.numel() for p in model.parameters()) == 4 * 6 + 4
    assert torch.equal(model(torch.rand(5, 2, 3)), torch.zeros(5, 4))
    assert LinearModel().build((2, 3), 4)(torch.rand(5, 2, 3)).abs().sum() > 0
    with pytest.raises(UsageError, match="start"):
        LinearModel(start="one")
