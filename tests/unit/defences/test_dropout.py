import pytest
import torch
from torch import nn

from sfumato.defences.dropout import Dropout
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.resnet import ResNet8


@pytest.mark.parametrize(("family", "shape"), [(MLP(hidden=(8, 8)), (5,)), (ResNet8(width=4), (1, 8, 8))])
def test_one_dropout_layer_right_before_the_last_linear_layer(family, shape):
    model = Dropout(rate=0.4).prepare(family.build(shape, 3))
    layers = [layer for layer in model.modules() if not list(layer.children())]
    assert [type(layer) for layer in layers].count(nn.Dropout) == 1
    assert isinstance(layers[-1], nn.Linear)
    assert isinstance(layers[-2], nn.Dropout)
    assert layers[-2].p == 0.4


def test_answers_in_eval_mode_do_not_change():
    model, x = MLP().build((5,), 3).eval(), torch.randn(4, 5)
    before = model(x)
    assert torch.equal(Dropout().prepare(model).eval()(x), before)


def test_a_bare_linear_layer_gets_dropout_on_its_input():
    model = Dropout().prepare(nn.Linear(3, 2))
    assert [type(layer) for layer in model.children()] == [nn.Dropout, nn.Linear]


def test_a_network_without_linear_layer_is_refused():
    with pytest.raises(UnsupportedModel, match="Conv2d"):
        Dropout().prepare(nn.Conv2d(1, 1, 3))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_range(rate):
    with pytest.raises(UsageError, match="rate"):
        Dropout(rate=rate)
