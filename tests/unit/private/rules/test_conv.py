import pytest
import torch
import torch.nn.functional as F

from sfumato.private.rules.conv import ConvWeight, Geometry, patch_gram


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_gram_of_patches_from_the_gram_of_pixels(stride, dilation):
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    patches = F.unfold(x, (2, 3), dilation, 0, stride)
    sides = [(n - dilation * (k - 1) - 1) // stride + 1 for n, k in ((7, 2), (6, 3))]
    geometry = Geometry((stride,) * 2, (0, 0), (dilation,) * 2, 1)
    found = patch_gram(x, torch.Size([2, 3]), geometry, torch.Size(sides))
    torch.testing.assert_close(found, patches.transpose(1, 2) @ patches)


def test_norms_of_convolutions_in_float32_are_not_below_the_truth():
    torch.manual_seed(0)
    seen, grad = torch.ones(3, 2, 6, 6) * 1e3, torch.randn(3, 4, 4, 4)
    grad -= grad.mean((2, 3), keepdim=True)  # constant maps: the true gradient is nearly zero
    term = ConvWeight(seen, torch.empty(4, 2, 3, 3), Geometry((1, 1), (0, 0), (1, 1), 1))
    truth = term.instantiate(grad.double(), 3, "kernel").square().flatten(1).sum(1)
    assert (term.squared_norms(grad, 3, "gram").double() >= truth).all()
