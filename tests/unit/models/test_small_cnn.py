import pytest
import torch

from sfumato.errors import UnsupportedModel
from sfumato.models.small_cnn import SmallCNN


@pytest.mark.parametrize(
    ("shape", "parameters"), [((1, 28, 28), 23_946), ((3, 32, 32), 38_570), ((1, 8, 8), 13_706), ((2, 9, 25), None)]
)
def test_sizes(shape, parameters):
    model = SmallCNN().build(shape, 10)
    assert model(torch.zeros(2, *shape)).shape == (2, 10)
    assert parameters is None or sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("shape", [(30,), (1, 7, 28), (0, 28, 28), (28, 28)])
def test_other_shapes_are_refused_with_what_came(shape):
    with pytest.raises(UnsupportedModel) as error:
        SmallCNN().build(shape, 10)
    assert str(shape) in str(error.value)
    assert "mlp" in error.value.remedy
