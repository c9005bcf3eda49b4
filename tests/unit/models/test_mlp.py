import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.mlp import MLP


def layers_of(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, kind)]


def test_widths_follow_the_configuration():
    linear = layers_of(MLP(hidden=(32, 16)).build((30,), 2), nn.Linear)
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(30, 32), (32, 16), (16, 2)]


def test_no_hidden_layer_gives_a_linear_model():
    assert len(layers_of(MLP(hidden=()).build((30,), 1), nn.Linear)) == 1


def test_images_are_flattened():
    assert MLP().build((3, 8, 8), 10)(torch.zeros(4, 3, 8, 8)).shape == (4, 10)


@pytest.mark.parametrize(("name", "kind"), [("relu", nn.ReLU), ("tanh", nn.Tanh), ("gelu", nn.GELU)])
def test_activation_follows_the_name(name, kind):
    assert len(layers_of(MLP(hidden=(4, 4), activation=name).build((3,), 2), kind)) == 2


def test_dropout_is_one_layer_per_hidden_layer_and_none_at_rate_zero():
    found = layers_of(MLP(hidden=(4, 4), dropout=0.3).build((3,), 2), nn.Dropout)
    assert [layer.p for layer in found] == [0.3, 0.3]
    assert layers_of(MLP().build((3,), 2), nn.Dropout) == []


@pytest.mark.parametrize("bad", [{"hidden": (0,)}, {"activation": "sin"}, {"dropout": 1.0}, {"dropout": float("nan")}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        MLP(**bad)


def test_bad_shapes_and_outputs_are_refused():
    with pytest.raises(UnsupportedModel, match=r"\(0,\)"):
        MLP().build((0,), 2)
    with pytest.raises(UnsupportedModel, match="mlp"):
        MLP().build((), 2)
    with pytest.raises(UsageError, match="outputs"):
        MLP().build((3,), 0)
