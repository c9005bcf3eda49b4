import pytest
from torch import nn

from sfumato.errors import UnsupportedModel
from sfumato.models.head import head_name, replace_layer


def test_the_last_linear_layer_is_found():
    assert head_name(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 2), nn.Tanh()))) == "2.0"
    assert head_name(nn.Linear(2, 2)) == ""


def test_projections_inside_attention_do_not_count():
    assert head_name(nn.ModuleDict({"first": nn.Linear(4, 4), "last": nn.MultiheadAttention(4, 2)})) == "first"


def test_a_network_without_linear_layer_is_refused():
    with pytest.raises(UnsupportedModel, match="Conv2d"):
        head_name(nn.Conv2d(1, 1, 3))


def test_replace_layer_changes_one_place():
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    assert replace_layer(model, "1.0", nn.GELU()) is model
    assert isinstance(model[1][0], nn.GELU)
    assert isinstance(replace_layer(model, "", nn.Tanh()), nn.Tanh)
