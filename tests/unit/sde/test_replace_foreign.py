"""The drop-in replacement in networks as others write them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.sde.finding.opaque import OpaqueBlock
from sfumato.sde.replace import Replacement, replace

WIDTH = 6


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


def answers(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model.eval()(x)
    return found if isinstance(found, torch.Tensor) else found.logits


def swapped(model: nn.Module, x: torch.Tensor, where="all", **more) -> Replacement:
    """The replacement, after a check that one step without noise is the old network, also in a copy of it."""
    torch.manual_seed(3)
    before, weights = answers(model, x), {id(p) for p in model.parameters()}
    done = replace(model, where, steps=1, convert_norm=False, **more)
    assert torch.equal(answers(done.model, x), before)
    assert torch.equal(answers(copy.deepcopy(done.model), x), before)
    assert {id(p) for p in done.model.parameters()} == weights
    return done


class Basic(nn.Module):
    """As torchvision writes it: one activation for two places, sums and activations in place."""

    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        same = before == after and stride == 1
        self.downsample = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    """Function calls instead of layers, and a dropout that is off."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)
        self.middle, self.shortcut = nn.Conv2d(2, 2, 3, padding=1), nn.Sequential()

    def forward(self, x):
        return F.relu(torch.add(self.shortcut(x), self.up(F.relu(self.middle(F.relu(self.down(x)))))))


class ImageNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1 = nn.Sequential(Basic(4, 4), Basic(4, 4))
        self.layer2 = nn.Sequential(Basic(4, 8, 2), Bottleneck(8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(F.relu(self.stem(x)))).mean((2, 3)))


def test_a_network_of_torchvisions_kind():
    done = swapped(ImageNet(), torch.randn(2, 3, 8, 8))
    assert [each.place for each in done.swapped] == ["layer1.0", "layer1.1", "layer2.1"]
    assert [missed.place for missed in done.missed] == ["layer2.0"]
    assert isinstance(done.model.layer1[0].after, nn.ReLU)


class ViTBlock(nn.Module):
    """Two branches in one forward, with scales of its own and an argument that is not used here."""

    def __init__(self, width, heads=2):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 9), nn.GELU(), nn.Dropout(0.1), nn.Linear(9, width))
        self.scale = nn.Parameter(torch.rand(width))
        self.kind = "full"

    def forward(self, x, mask=None, need_weights=False):
        normed = self.ln1(x)
        attended, weights = self.attn(normed, normed, normed, key_padding_mask=mask)
        x = x + self.scale * attended
        x = x + self.mlp(self.ln2(x))
        return (x, weights) if need_weights else x


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3)
        self.position = nn.Parameter(torch.randn(4, WIDTH))
        self.blocks = nn.ModuleList(ViTBlock(WIDTH) for _ in range(2))

    def forward(self, x):
        h = self.embed(x) + self.position
        for block in self.blocks:
            assert block.kind == "full"  # a parent may read what is no layer
            h = block(h, mask=None)
        return self.head(h.mean(1))


def test_both_branches_of_a_transformer_block_in_order():
    done = swapped(ViT(), torch.randn(2, 4, 5), example=torch.randn(3, 4, 5))
    assert [each.place for each in done.swapped] == ["blocks.0[0]", "blocks.0[1]", "blocks.1[0]", "blocks.1[1]"]
    names = list(done.model.state_dict())
    assert "blocks.1.sde0.drift.scale" in names
    assert "blocks.1.sde1.drift.mlp.0.weight" in names
    assert len(names) == len(set(names)) == len(ViT().state_dict())


def test_one_branch_by_its_name_and_all_of_a_module():
    x = torch.randn(2, 4, 5)
    assert [s.block for s in swapped(ViT(), x, "blocks.1[1]", example=x).swapped] == ["blocks.1.sde0"]
    assert len(swapped(ViT(), x, "blocks.1", example=x).swapped) == 2
    assert [s.place for s in swapped(ViT(), x, "last-block", example=x).swapped] == ["blocks.1[1]"]


def test_dropout_in_a_branch_is_kept():
    done = swapped(ViT(), torch.randn(2, 4, 5), example=torch.randn(2, 4, 5))
    assert sum(isinstance(part, nn.Dropout) for part in done.model.modules()) == 2


class Flat(nn.Module):
    """Everything in one forward."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(linear() for _ in range(3))
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(x + layer(x))
        return self.head(x)


def test_blocks_written_in_the_networks_own_forward():
    done = swapped(Flat(), torch.randn(2, WIDTH))
    assert [s.place for s in done.swapped] == [f"the network itself[{k}]" for k in range(3)]
    assert isinstance(done.model, Flat)
    one = swapped(Flat(), torch.randn(2, WIDTH), "last-block")
    assert [s.block for s in one.swapped] == ["sde0"]
    assert {"layers.0.weight", "layers.1.weight", "sde0.drift.layers.2.weight"} <= set(one.model.state_dict())


def test_several_steps_of_a_branch_in_a_parents_forward():
    torch.manual_seed(0)
    model, x = Flat().eval(), torch.randn(2, WIDTH)
    h = x
    with torch.no_grad():
        for layer in model.layers:
            for _ in range(3):
                h = h + layer(h) / 3
            h = torch.tanh(h)
        expected = model.head(h)
    assert torch.allclose(answers(replace(model, "all", steps=3).model, x), expected, atol=1e-6)


@pytest.mark.parametrize("norm_first", [True, False])
def test_torchs_own_encoder_layer_is_reported_and_can_be_named(norm_first):
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True, norm_first=norm_first)
    model, x = nn.Sequential(nn.Linear(5, WIDTH), layer, nn.Flatten(), nn.Linear(4 * WIDTH, 2)), torch.randn(2, 4, 5)
    with pytest.raises(UnsupportedModel, match=r"`1`: torch.fx does not follow its forward"):
        replace(model, "all", example=x)
    done = swapped(model, x, "1", example=x)
    assert done.swapped[0].opaque
    assert "taken as it is" in str(done)
    assert isinstance(done.model[1], OpaqueBlock)
    assert done.missed == ()


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()

    def forward(self, x):
        return x + self.layer(x) if x.sum() > -1e9 else x


def test_control_flow_on_data_is_reported_by_name_and_can_be_taken_as_it_is():
    model, x = nn.Sequential(linear(), Flow(), nn.Linear(WIDTH, 2)), torch.randn(2, WIDTH)
    with pytest.raises(UnsupportedModel, match=r"`1`: torch.fx does not follow its forward.*control flow"):
        replace(model, "all")
    done = swapped(model, x, ["1"])
    block, h = done.blocks()[0], torch.randn(2, WIDTH)
    with torch.no_grad():
        assert torch.allclose(block.drift(0.3, h), block.drift.block(h) - h)


def test_several_steps_of_an_opaque_block():
    torch.manual_seed(0)
    model = nn.Sequential(linear(), Flow()).eval()
    flow, h = copy.deepcopy(model[1]), torch.randn(2, WIDTH)
    with torch.no_grad():
        half = h + (flow(h) - h) / 2
        expected = half + (flow(half) - half) / 2
        found = replace(model, "1", steps=2).model[1](h)
    assert torch.allclose(found, expected, atol=1e-6)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple = ()


class Decoder(nn.Module):
    """As Hugging Face writes them: keywords, catch-alls, tuples."""

    def __init__(self):
        super().__init__()
        self.attention, self.norm, self.mlp = linear(), nn.LayerNorm(WIDTH), linear()

    def forward(self, hidden_states, attention_mask=None, output_attentions=False, **kwargs):
        residual = hidden_states
        weights = self.attention(hidden_states)
        if attention_mask is not None:
            weights = weights * attention_mask
        hidden_states = residual + weights
        hidden_states = hidden_states + self.mlp(self.norm(hidden_states))
        return (hidden_states, weights) if output_attentions else (hidden_states,)


class LanguageModel(nn.Module):
    def __init__(self, *, masked=False):
        super().__init__()
        self.embed, self.head, self.masked = nn.Embedding(10, WIDTH), nn.Linear(WIDTH, 3), masked
        self.layers = nn.ModuleList(Decoder() for _ in range(2))

    def forward(self, input_ids=None, return_dict=True):
        h = self.embed(input_ids)
        mask = (input_ids > 4)[..., None].float() if self.masked else None
        for layer in self.layers:
            h = layer(h, attention_mask=mask, output_attentions=False)[0]
        return Output(logits=self.head(h[:, 0]))


def test_a_language_model_with_objects_as_outputs():
    done = swapped(LanguageModel(), torch.randint(10, (2, 5)))
    assert len(done.swapped) == 4


def test_a_branch_that_reads_another_input_is_reported():
    x = torch.randint(10, (2, 5))
    done = swapped(LanguageModel(masked=True), x, example={"input_ids": x})
    assert [s.place for s in done.swapped] == ["layers.0", "layers.1"]
    assert {m.reason for m in done.missed} == {"the branch also depends on `attention_mask`"}


class Sum(nn.Module):
    """h + branch(h), in ways that are no residual block."""

    def __init__(self, way):
        super().__init__()
        self.way, self.layer, self.other = way, linear(), linear()
        self.narrow = nn.Linear(WIDTH, 1)

    def forward(self, x):
        if self.way == "broadcast":
            return x + self.narrow(x)
        if self.way == "both":
            return self.other(x) + self.layer(x)
        if self.way == "elsewhere":
            branch = self.layer(x)
            return (x + branch) * branch
        if self.way == "no weights":
            return self.layer(x + x**3)
        if self.way == "training":
            return x + F.dropout(self.layer(x), 0.5, self.training)
        return torch.add(x, self.layer(x), alpha=2)


REASONS = {
    "broadcast": "the sum broadcasts",
    "both": "neither side of the sum is computed from the other",
    "elsewhere": "what the branch computes is used elsewhere",
    "no weights": "the branch has no weights",
    "training": "another one in training mode",
    "factor": "adds with a factor",
}


@pytest.mark.parametrize("way", REASONS)
def test_a_sum_that_is_no_residual_block_is_reported_and_left(way):
    model, x = nn.Sequential(Sum(way), Flat()), torch.randn(2, WIDTH)
    done = swapped(model, x, example=x)
    assert {s.place for s in done.swapped} == {f"1[{k}]" for k in range(3)}
    assert [m.place for m in done.missed] == ["0"]
    assert REASONS[way] in done.missed[0].reason


class Remembers(nn.Module):
    """Its second answer is another one."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = Counts(), 0

    def forward(self, x):
        return x + self.layer(x)


class Counts(nn.Linear):
    def __init__(self):
        super().__init__(WIDTH, WIDTH)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


def test_a_block_that_cannot_be_reproduced_is_left():
    model = nn.Sequential(Remembers(), nn.Linear(WIDTH, 2))
    with pytest.raises(UnsupportedModel, match="does not give what it gave"):
        replace(model, "all")
    assert isinstance(model[0], Remembers)


class InPlaceFirst(nn.Module):
    """Writes to its input: what is added is the input afterwards."""

    def __init__(self):
        super().__init__()
        self.act, self.layer = nn.ReLU(inplace=True), linear()

    def forward(self, x):
        return x + self.layer(self.act(x))


def test_a_branch_that_writes_to_its_input_is_still_the_old_block():
    assert len(swapped(nn.Sequential(linear(), InPlaceFirst()), torch.randn(2, WIDTH)).swapped) == 1


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


def test_a_sum_around_several_blocks_is_no_block():
    done = swapped(Around(nn.Sequential(Around(linear()), Around(linear()))), torch.randn(2, WIDTH))
    assert [s.place for s in done.swapped] == ["inner.0", "inner.1"]
    assert "around several" in done.missed[0].reason


def test_a_branch_inside_a_block_stays_part_of_it():
    done = swapped(nn.Sequential(Around(nn.Sequential(Around(linear()), linear()))), torch.randn(2, WIDTH))
    assert [s.place for s in done.swapped] == ["0"]
    assert "inside the residual block `0`" in done.missed[0].reason


def test_a_block_that_stands_in_two_places_stays_one():
    shared = Around(linear())
    done = swapped(nn.Sequential(shared, nn.Tanh(), shared), torch.randn(2, WIDTH))
    assert done.model[0] is done.model[2]
    assert len(done.swapped) == 1


def test_a_module_that_changes_the_shape_cannot_be_taken_as_it_is():
    with pytest.raises(UnsupportedModel, match="comes out in the same shape"):
        replace(nn.Sequential(linear(), nn.Linear(WIDTH, 2)), "1")


def test_a_branch_that_stops_keeping_the_shape_stops_the_network():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            return x + F.interpolate(self.layer(x), (8, 8))

    done = replace(nn.Sequential(Pooled()), "all", example=torch.randn(2, 2, 8, 8))
    with pytest.raises(UnsupportedModel, match=r"keeps the state's shape .*4, 1.*8, 8"):
        done.model(torch.randn(2, 2, 4, 1))


def test_a_network_that_does_not_run_is_refused():
    with pytest.raises(UsageError, match="runs on the example, got RuntimeError"):
        replace(Flat(), "all", example=torch.randn(2, WIDTH + 1))
    with pytest.raises(UsageError, match="runs on a made-up batch"):
        replace(nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(4, 2)), "all")
