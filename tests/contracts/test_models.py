"""What every network family promises, found by discovery."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import sfumato.models
from sfumato.canonical import canonical_json
from sfumato.errors import SfumatoError, UnsupportedModel
from sfumato.models.base import ModelFamily
from sfumato.models.build import build_seeded
from sfumato.models.user_file import FileModel
from sfumato.registry import discover
from sfumato.sde.streams import set_noise
from sfumato.training.draws import Draws

FAMILIES = discover(sfumato.models, ModelFamily)
SHAPES = ((30,), (1, 8, 8), (3, 32, 32))
NARROW = {"resnet-18": {"width": 8}, "wide-resnet": {"depth": 10, "width": 1}} | {
    name: {"channels": 8, "width": 16} for name in ("ode-net", "sde-net", "residual-net")
}
OWN_NETWORK = """
import math
from torch import nn

def make(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))
"""


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path: Path) -> ModelFamily:
    if FAMILIES[request.param] is FileModel:
        (tmp_path / "network.py").write_text(OWN_NETWORK)
        return FileModel(path=str(tmp_path / "network.py"))
    return FAMILIES[request.param](**NARROW.get(request.param, {}))


def supported(family: ModelFamily) -> list[tuple[int, ...]]:
    return [shape for shape in SHAPES if _supports(family, shape)]


def answers(model, x):
    """With the same random numbers each time, where the model draws any."""
    set_noise(model, Draws((0,)))
    return model(x)


def _supports(family: ModelFamily, shape: tuple[int, ...]) -> bool:
    try:
        family.build(shape, 2)
    except UnsupportedModel:
        return False
    return True


def test_the_families_of_the_first_release_are_found():
    assert set(FAMILIES) >= {"mlp", "small-cnn", "resnet-8", "resnet-20", "resnet-18", "wide-resnet", "user-file"}


def test_it_is_a_frozen_value_with_a_name_and_a_citation(family):
    assert family.name
    if not isinstance(family, FileModel):
        assert type(family)() == type(family)()
        assert family.bibtex.startswith("@")
        assert f"{{{family.reference}," in family.bibtex
    with pytest.raises(dataclasses.FrozenInstanceError):
        family.name = "other"


def test_it_can_be_written_down(family):
    assert json.loads(canonical_json(family))["class"].endswith(type(family).__qualname__)
    twin = dataclasses.replace(family)
    assert canonical_json(twin) == canonical_json(family)


def test_images_are_supported(family):
    assert (3, 32, 32) in supported(family)


@pytest.mark.parametrize("outputs", [1, 10])
def test_logits_have_their_shape(family, outputs):
    for shape in supported(family):
        assert family.build(shape, outputs)(torch.rand(3, *shape)).shape == (3, outputs)


def test_records_do_not_influence_one_another_in_eval_mode(family):
    for shape in supported(family):
        model = family.build(shape, 5).double().eval()
        x = torch.rand(4, *shape, dtype=torch.float64)
        other = x.clone()
        other[2] += 1
        with torch.no_grad():
            before, after, alone = answers(model, x), answers(model, other), answers(model, x[:1])
        unchanged = torch.tensor([0, 1, 3])
        assert torch.allclose(before[unchanged], after[unchanged], atol=1e-12)
        assert torch.allclose(before[:1], alone, atol=1e-12)
        assert not torch.allclose(before[2], after[2])


def test_the_seed_decides_the_weights(family):
    for shape in supported(family):
        first, again, other = (build_seeded(family, shape, 3, seed).state_dict() for seed in (5, 5, 6))
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert any(not torch.equal(first[key], other[key]) for key in first)


def test_every_parameter_receives_a_gradient(family):
    for shape in supported(family):
        model = family.build(shape, 3)
        model(torch.rand(4, *shape)).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)], ids=str)
def test_impossible_shapes_are_refused_with_a_remedy(family, shape):
    with pytest.raises(SfumatoError) as error:
        family.build(shape, 2)
    assert error.value.remedy
