import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel
from sfumato.models.low_rank import adapt, can_be_adapted, merge
from sfumato.models.weight_standardisation import WSConv2d

LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (4, 7, 5)),
    "no bias": (lambda: nn.Linear(5, 3, bias=False), (4, 5)),
    "conv": (lambda: nn.Conv2d(2, 6, 3, stride=2, padding=1), (4, 2, 9, 8)),
    "reflect": (lambda: nn.Conv2d(2, 6, (3, 1), padding=(1, 0), dilation=(1, 2), padding_mode="reflect"), (4, 2, 9, 8)),
    "same": (lambda: nn.Conv2d(2, 6, 3, padding="same", bias=False), (4, 2, 9, 8)),
}


@pytest.fixture(params=LAYERS)
def case(request):
    """A double-precision layer and rows for it."""
    make, shape = LAYERS[request.param]
    torch.manual_seed(1)
    return make().double(), torch.randn(shape, dtype=torch.float64)


def moved(layer):
    """The adapted layer after its factors have left their start."""
    with torch.no_grad():
        layer.lora_B.normal_(generator=torch.Generator().manual_seed(2))
    return layer


def test_it_begins_as_the_layer_it_stands_for_and_keeps_its_names(case):
    layer, x = case
    before, names = layer(x), list(layer.state_dict())
    adapted = adapt(layer, [""], 2, 0.5)
    assert torch.equal(adapted(x), before)
    assert [name for name in adapted.state_dict() if not name.startswith("lora")] == names
    assert {n for n, p in adapted.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_the_addition_is_the_product_of_the_factors_and_merging_keeps_the_function(case):
    layer, x = case
    weight, plain = layer.weight.detach().clone(), type(layer)
    adapted = moved(adapt(layer, [""], 2, 0.5))
    b, a = adapted.lora_B.flatten(1), adapted.lora_A.flatten(1)
    expected = adapted(x)
    merged = merge(adapted)
    assert type(merged) is plain
    assert torch.allclose(merged.weight, weight + 0.5 * (b @ a).reshape(weight.shape), rtol=0, atol=1e-12)
    assert torch.allclose(merged(x), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(merged.weight, weight)
    assert torch.linalg.matrix_rank((merged.weight - weight).flatten(1)) == 2
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_a_layer_in_two_places_stays_one_layer():
    shared = nn.Linear(4, 4)
    model = adapt(nn.Sequential(shared, nn.ReLU(), shared), ["0", "2"], 1, 1.0)
    assert model[0] is model[2]
    merged = merge(model)
    assert merged[0] is merged[2]
    assert type(merged[0]) is nn.Linear


def test_the_start_depends_on_the_name_alone():
    def first(names):
        torch.manual_seed(len(names))
        return adapt(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), names, 2, 1.0)

    one, two = first(["1"]), first(["0", "1"])
    assert torch.equal(one[1].lora_A, two[1].lora_A)
    assert not torch.equal(two[0].lora_A, two[1].lora_A)
    state = torch.get_rng_state()
    adapt(nn.Linear(3, 3), [""], 1, 1.0)
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    nn.Linear(3, 3)  # draws its own weights; the factors draw nothing from torch's generator
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3, groups=2), WSConv2d(4, 4, 3), nn.GroupNorm(2, 4)], ids=str)
def test_layers_that_would_compute_something_else_are_refused_by_name(layer):
    assert not can_be_adapted(layer)
    with pytest.raises(UnsupportedModel, match=f"{type(layer).__name__}.* at `1`"):
        adapt(nn.Sequential(nn.ReLU(), layer), ["1"], 1, 1.0)
