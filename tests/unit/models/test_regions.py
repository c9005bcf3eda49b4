import pytest
import torch
from torch import nn

import sfumato.models
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.base import ModelFamily
from sfumato.models.linear import LinearModel
from sfumato.models.mlp import MLP
from sfumato.models.regions import Regions, front, put, selected, state_of, train_only
from sfumato.models.residual_net import ResidualNet
from sfumato.models.resnet import ResNet8, ResNet20
from sfumato.models.small_cnn import SmallCNN
from sfumato.models.standardise import Standardise
from sfumato.models.wide_resnet import WideResNet
from sfumato.registry import discover

FAMILIES = {name: kind for name, kind in discover(sfumato.models, ModelFamily).items() if name != "user-file"}
IMAGE, TABLE = (2, 8, 8), (6,)


def built(family: ModelFamily, shape: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return family.build(shape, 3)


def names(regions) -> list[str]:
    return [region.name for region in regions]


def scaled(network: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(Standardise(torch.zeros(features), torch.ones(features)), network)


@pytest.mark.parametrize("by", ["depth", "type"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_of_every_family_is_in_exactly_one_region(name, by):
    small = {"width": 4} if name.startswith("resnet") else {"width": 1} if name == "wide-resnet" else {}
    tables = ("mlp", "linear")
    network = built(FAMILIES[name](**small), TABLE if name in tables else IMAGE)
    regions = Regions(by=by).of(network)
    assert sorted(one for region in regions for one in region.state) == sorted(network.state_dict())
    assert len(set(names(regions))) == len(regions)
    assert all(region.parameters for region in regions)
    parameters = dict(network.named_parameters())
    assert sum(region.values for region in regions) == sum(p.numel() for p in parameters.values())
    assert all(set(region.parameters) <= set(parameters) for region in regions)
    assert Regions(by=by).of(built(FAMILIES[name](**small), TABLE if name in tables else IMAGE)) == regions


@pytest.mark.parametrize(
    ("family", "shape", "wanted"),
    [
        (LinearModel(), TABLE, ["head"]),
        (MLP(hidden=(4,)), TABLE, ["stem", "head"]),
        (MLP(hidden=(4, 4), dropout=0.2), TABLE, ["stem", "layer-2", "head"]),
        (SmallCNN(), IMAGE, ["stem", "layer-2", "layer-3", "head"]),
        (ResNet8(width=4), IMAGE, ["stem", "stage-1", "stage-2", "stage-3", "head"]),
        (ResNet20(width=4, norm="group"), IMAGE, ["stem", "stage-1", "stage-2", "stage-3", "head"]),
        (WideResNet(depth=16, width=1), IMAGE, ["stem", "stage-1", "stage-2", "stage-3", "head"]),
        (ResidualNet(blocks=3, width=4), TABLE, ["stem", "block-1", "block-2", "block-3", "head"]),
    ],
)
def test_by_depth(family, shape, wanted):
    network = built(family, shape)
    assert names(Regions().of(network)) == wanted
    fronted = Regions().of(scaled(network, shape[0]))
    assert names(fronted) == wanted, "layers that scale inputs are no region"
    assert {"0.mean", "0.std"} <= set(fronted[0].buffers)


def test_stages_hold_their_blocks_and_norms_stay_with_what_they_follow():
    network = built(ResNet8(width=4), IMAGE)
    by_name = {region.name: region for region in Regions().of(network)}
    assert by_name["stem"].parameters == ("0.weight", "1.weight", "1.bias")
    assert by_name["stem"].buffers == ("1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert all(name.startswith("4.") for name in by_name["stage-2"].state)
    wide = {region.name: region for region in Regions().of(built(WideResNet(depth=10, width=1), IMAGE))}
    assert "4.weight" in wide["stage-3"].parameters, "the last normalisation belongs to the last stage"


def test_by_type():
    assert names(Regions(by="type").of(built(ResNet8(width=4), IMAGE))) == ["conv", "norm", "linear"]
    assert names(Regions(by="type").of(built(SmallCNN(), IMAGE))) == ["conv", "mlp", "linear"]
    transformer = nn.Sequential(nn.Embedding(5, 8), nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 3))
    regions = {region.name: region for region in Regions(by="type").of(transformer)}
    assert list(regions) == ["other", "attention", "mlp", "norm", "linear"]
    assert regions["mlp"].parameters == ("1.linear1.weight", "1.linear1.bias", "1.linear2.weight", "1.linear2.bias")
    assert regions["other"].parameters == ("0.weight",)
    assert all(name.startswith("1.self_attn.") for name in regions["attention"].parameters)


def test_parameters_of_the_network_itself_and_wrappers():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 4))
            self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(4, 1, 8) for _ in range(2)])
            self.out = nn.Linear(4, 2)

    regions = Regions().of(Tokens())
    assert names(regions) == ["stem", "block-1", "block-2", "head"]
    assert regions[0].parameters == ("token",)

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = built(MLP(hidden=(4,)), TABLE)

    assert names(Regions().of(Wrapper())) == ["stem", "head"]
    assert names(Regions().of(nn.Linear(2, 2))) == ["head"]


def test_a_shared_tensor_is_in_the_region_of_its_first_name():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.Linear(4, 2))
    network[2].weight = network[0].weight
    regions = Regions().of(network)
    assert regions[0].parameters == ("0.weight", "2.weight")
    assert regions[0].values == 16


def test_by_expressions():
    network = built(ResNet8(width=4), IMAGE)
    regions = Regions(by="expressions", expressions=("0[.].*", ".*[.]bias")).of(network)
    assert names(regions) == ["0[.].*", "rest", ".*[.]bias"]
    assert sorted(one for region in regions for one in region.state) == sorted(network.state_dict())
    assert regions[0].parameters == ("0.weight",)
    assert Regions(by="expressions", expressions=("0[.].*",)).of(scaled(network, 2))[0].parameters == ("1.0.weight",)
    with pytest.raises(UsageError, match=r"'nothing'.*left none"):
        Regions(by="expressions", expressions=("0[.].*", "nothing")).of(network)
    with pytest.raises(UsageError, match="regular expression"):
        Regions(by="expressions", expressions=("[",))
    with pytest.raises(UsageError, match="no other"):
        Regions(expressions=("0.*",))
    with pytest.raises(UsageError, match="no other"):
        Regions(by="expressions")


def test_a_region_is_found_by_its_name():
    network = built(MLP(hidden=(4,)), TABLE)
    assert Regions().region(network, "head").parameters == ("3.weight", "3.bias")
    with pytest.raises(UsageError, match="stem"):
        Regions().region(network, "tail")
    with pytest.raises(UnsupportedModel, match="with parameters"):
        Regions().of(nn.Sequential(nn.ReLU()))


def test_selected_takes_regions_names_and_expressions():
    network = built(ResNet8(width=4), IMAGE)
    head = ("7.weight", "7.bias") if "7.weight" in network.state_dict() else ("8.weight", "8.bias")
    assert selected(network, ["head"]) == head
    assert selected(network, ["0.weight", "head"]) == ("0.weight", *head)
    assert set(selected(network, ["norm"])) == {n for n, p in network.named_parameters() if p.dim() == 1} - set(head)
    assert selected(scaled(network, 2), ["0[.].*"]) == ("1.0.weight",)
    with pytest.raises(UsageError, match="got '0'"):
        selected(network, ["0"])


def test_what_stands_in_front():
    network = built(MLP(hidden=(4,)), TABLE)
    assert front(network) == ""
    assert front(scaled(network, 6)) == "1."
    assert front(nn.Sequential(nn.Flatten(), nn.Linear(2, 2))) == ""


def test_state_of_takes_the_buffers_of_the_layers_along():
    network = built(ResNet8(width=4), IMAGE)
    assert state_of(network, {"1.weight"}) == ("1.weight", "1.running_mean", "1.running_var", "1.num_batches_tracked")


def test_put_copies_to_the_bit_and_nothing_else():
    first, second = built(MLP(hidden=(4,)), TABLE), built(MLP(hidden=(4,)), TABLE)
    for parameter in second.parameters():
        parameter.data += 1
    before = {name: value.clone() for name, value in first.state_dict().items()}
    put(first, second.state_dict(), ["3.weight"])
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name] if name == "3.weight" else before[name])


def test_train_only_leaves_frozen_ones_frozen():
    network = built(MLP(hidden=(4,)), TABLE)
    network[3].bias.requires_grad_(False)
    train_only(network, {"3.weight", "3.bias"})
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["3.weight"]
    with pytest.raises(UnsupportedModel, match="to train"):
        train_only(network, {"3.bias"})
