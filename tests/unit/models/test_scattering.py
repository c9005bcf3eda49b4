import sys

import pytest
import torch

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.scattering import PLANES, ScatterFeatures

kymatio = pytest.importorskip("kymatio.scattering2d.frontend.torch_frontend", reason="needs sfumato[scatter]")


def images(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("J", "L", "maps"), [(1, 4, 5), (2, 8, 81), (2, 2, 9), (3, 3, 37)])
def test_shape_and_number_of_maps(J, L, maps):
    features = ScatterFeatures(J=J, L=L)
    out = features(images(2, 3, 16, 24))
    assert features.coefficients == maps
    assert out.shape == (2, 3 * maps, 16 // 2**J, 24 // 2**J) == (2, *features.shape((3, 16, 24)))
    assert out.dtype == torch.float32


def test_sizes_that_are_no_multiple_of_the_window():
    assert ScatterFeatures(L=2)(images(1, 1, 13, 15)).shape[1:] == ScatterFeatures(L=2).shape((1, 13, 15)) == (9, 3, 3)


def test_each_record_and_each_channel_is_transformed_by_itself_across_chunks():
    features, x = ScatterFeatures(L=2), images(PLANES // 2 + 3, 3, 8, 8)
    together = features(x)
    alone = torch.cat([torch.cat([features(record[None, c : c + 1]) for c in range(3)], 1) for record in x[-5:]])
    assert torch.allclose(together[-5:], alone, atol=1e-6)
    assert torch.allclose(together, torch.cat([features(part) for part in x.split(7)]), atol=1e-6)


def test_a_constant_image_has_only_an_average():
    out = ScatterFeatures(L=4)(torch.full((1, 1, 16, 16), 0.7))
    assert torch.allclose(out[0, 0], torch.full((4, 4), 0.7), atol=1e-4)
    assert out[0, 1:].abs().max() < 1e-3


def test_first_order_tells_orientations_apart():
    stripes = torch.sin(torch.arange(32) * 1.6).expand(32, 32)[None, None]
    first = ScatterFeatures(J=2, L=8)(torch.cat([stripes, stripes.mT]))[:, 1:9].mean((2, 3))
    assert int(first[0].argmax()) != int(first[1].argmax())
    assert abs(int(first[0].argmax()) - int(first[1].argmax())) == 4  # A quarter turn is half of 8 orientations.


def test_no_records_and_no_gradient():
    assert ScatterFeatures(L=2)(torch.empty(0, 1, 8, 8)).shape == (0, 9, 2, 2)
    assert not ScatterFeatures(L=2)(images(1, 1, 8, 8).requires_grad_()).requires_grad


def test_doubles_and_other_memory_layouts_are_taken():
    x = images(2, 3, 8, 8)
    plain = ScatterFeatures(L=2)(x)
    assert torch.equal(ScatterFeatures(L=2)(x.double()), plain)
    assert torch.equal(ScatterFeatures(L=2)(x.to(memory_format=torch.channels_last)), plain)


@pytest.mark.parametrize("shape", [(5,), (28, 28), (1, 3, 28)])
def test_records_that_are_no_images_or_too_small(shape):
    with pytest.raises(UnsupportedModel, match="at least 4 x 4"):
        ScatterFeatures()(torch.zeros(2, *shape))


def test_fields_are_checked():
    with pytest.raises(UsageError, match="`J`"):
        ScatterFeatures(J=0)
    with pytest.raises(UsageError, match="`L`"):
        ScatterFeatures(L=0)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "kymatio.scattering2d.frontend.torch_frontend", None)
    with pytest.raises(UsageError, match="kymatio") as caught:
        ScatterFeatures()(images(1, 1, 8, 8))
    assert "sfumato[scatter]" in caught.value.remedy
