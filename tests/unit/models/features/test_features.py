"""What every fixed feature map promises, found by discovery, and the values of each."""

import json

import numpy as np
import pytest
import torch

import sfumato.models.features
from sfumato.canonical import canonical_json
from sfumato.errors import SfumatoError, UnsupportedModel, UsageError
from sfumato.models.features.base import Features, stored_and_rest
from sfumato.models.features.chain import Chain
from sfumato.models.features.fixed_norm import FixedNorm
from sfumato.models.features.flip_averaged import FlipAveraged
from sfumato.models.features.group_normalised import GroupNormalised
from sfumato.models.features.order_normalised import OrderNormalised
from sfumato.models.features.scattering import Scattering
from sfumato.models.scattering import ScatterFeatures
from sfumato.registry import discover

MAPS = discover(sfumato.models.features, Features)
EXAMPLES = {
    "chain": (Chain(maps=(Scattering(L=2), GroupNormalised(groups=3))), (1, 8, 8)),
    "fixed-norm": (FixedNorm(norm=3.0), (5, 2, 2)),
    "flip-averaged": (FlipAveraged(of=Scattering(L=2)), (2, 8, 8)),
    "group-normalised": (GroupNormalised(groups=3), (6, 2, 2)),
    "order-normalised": (OrderNormalised(L=2), (18, 2, 2)),
    "scattering": (Scattering(L=2), (3, 8, 8)),
}


def records(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=MAPS)
def example(request) -> tuple[Features, tuple[int, ...]]:
    if request.param in ("chain", "flip-averaged", "scattering"):
        pytest.importorskip("kymatio.scattering2d.frontend.torch_frontend", reason="needs sfumato[scatter]")
    return EXAMPLES[request.param]


def test_each_has_an_example_here():
    assert set(EXAMPLES) == set(MAPS)


def test_the_features_of_a_record_are_its_own(example):
    features, shape = example
    x = records(5, *shape)
    changed = x.clone()
    changed[2] = 1 - changed[2].flip(-1)
    before, after = features(x), features(changed)
    assert before.shape == (5, *features.shape(shape))
    assert before.dtype == torch.float32
    assert (before != after).flatten(1).any(dim=1).tolist() == [False, False, True, False, False]
    assert torch.allclose(features(x[3:4]), before[3:4], atol=1e-3)
    assert features(x[:0]).shape == (0, *features.shape(shape))


def test_it_reads_no_gradient_and_can_be_written_down(example):
    features, shape = example
    assert not features(records(2, *shape).requires_grad_(True)).requires_grad
    assert json.loads(canonical_json(features))["class"].endswith(type(features).__qualname__)


def test_what_is_kept_loses_nothing(example):
    features, shape = example
    if features.kept_as is not None:
        out = features(records(3, *shape)).numpy()
        assert np.array_equal(out.astype(features.kept_as).astype(np.float32), out)


def test_group_normalised_values():
    out = GroupNormalised(groups=2, eps=1e-12)(records(3, 4, 5, 5)).double()
    for half in (out[:, :2], out[:, 2:]):
        assert torch.allclose(half.flatten(1).mean(dim=1), torch.zeros(3).double(), atol=1e-6)
        assert torch.allclose(half.flatten(1).var(dim=1, correction=0), torch.ones(3).double(), atol=1e-5)
    with pytest.raises(UnsupportedModel, match="3 equal groups"):
        GroupNormalised(groups=3)(records(1, 4, 5, 5))


def test_order_normalised_groups_follow_kymatio_and_join_the_colours():
    assert OrderNormalised(J=2, L=3).groups == (0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5)
    for J, L in ((1, 2), (3, 2), (3, 4)):
        assert len(OrderNormalised(J=J, L=L).groups) == ScatterFeatures(J=J, L=L).coefficients
    features = OrderNormalised(J=1, L=2, centre=0.25, floor=1e-9)
    x = records(4, 6, 3, 3)
    out = features(x).unflatten(1, (2, 3))
    assert torch.allclose(out[:, :, 0].flatten(1).mean(dim=1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(out[:, :, 1:].flatten(1).std(dim=1), torch.ones(4), atol=1e-5)
    with pytest.raises(UnsupportedModel, match="a multiple of 3"):
        features.shape((4, 3, 3))


def test_the_floor_keeps_an_even_record_small():
    assert OrderNormalised(J=1, L=2)(torch.full((1, 3, 2, 2), 0.5)).abs().max() < 1e-3


def test_flip_averaged_values():
    of = FixedNorm(norm=2.0)
    x = records(3, 2, 4, 4)
    out = FlipAveraged(of=of)(x)
    assert torch.allclose(out, (of(x) + of(x.flip(-1))) / 2)
    assert torch.allclose(FlipAveraged(of=of)(x.flip(-1)), out)
    with pytest.raises(UnsupportedModel, match="images"):
        FlipAveraged(of=of).shape((5,))


def test_fixed_norm_values():
    out = FixedNorm(norm=3.0)(torch.cat([records(2, 2, 2), torch.zeros(1, 2, 2)]))
    assert torch.allclose(out.flatten(1).norm(dim=1), torch.tensor([3.0, 3.0, 0.0]))
    with pytest.raises(UsageError, match="norm"):
        FixedNorm(norm=0.0)


def test_a_chain_applies_its_maps_in_order_and_knows_what_is_worth_keeping():
    cheap, costly = GroupNormalised(groups=1), Scattering(L=2)
    chain = Chain(maps=(costly, cheap, FixedNorm(norm=2.0)))
    assert stored_and_rest(chain) == (costly, Chain(maps=(cheap, FixedNorm(norm=2.0))))
    assert stored_and_rest(Chain(maps=(cheap, costly))) == (Chain(maps=(cheap, costly)), None)
    assert stored_and_rest(cheap) == (None, cheap)
    assert stored_and_rest(costly) == (costly, None)
    x = records(2, 4, 2, 2)
    both = Chain(maps=(FixedNorm(norm=7.0), GroupNormalised(groups=2)))
    assert torch.equal(both(x), GroupNormalised(groups=2)(FixedNorm(norm=7.0)(x)))
    with pytest.raises(SfumatoError):
        Chain(maps=())
