import pytest
import torch

from sfumato.attacks.inversion.generators.dc_networks import ConvCritic, DCGenerator, cut, grid_of
from sfumato.attacks.inversion.generators.sn_networks import (
    ConditionalGenerator,
    ConditionalNorm,
    ProjectionDiscriminator,
)
from sfumato.errors import UnsupportedModel

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 47, 62), (2, 9, 30)]


@pytest.mark.parametrize(
    ("side", "base", "doublings"), [(8, 4, 1), (28, 7, 2), (32, 4, 3), (64, 4, 4), (47, 6, 3), (9, 5, 1)]
)
def test_pictures_grow_by_doubling(side, base, doublings):
    grid = grid_of((3, side, side))
    assert (grid.base, grid.doublings) == ((base, base), doublings)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_picture_can_be_made_and_judged(shape):
    x = DCGenerator(shape, 5, 4)(torch.randn(2, 5))
    assert x.shape == (2, *shape)
    assert ConvCritic(shape, 3, 4)(x).shape == (2, 3)
    labels = torch.tensor([0, 1])
    y = ConditionalGenerator(shape, 5, 4, 2)(torch.randn(2, 5), labels)
    assert y.shape == (2, *shape)
    assert ProjectionDiscriminator(shape, 4, 2)(y, labels).shape == (2,)
    for made in (x, y):
        assert (made > 0).all()
        assert (made < 1).all()


@pytest.mark.parametrize("shape", [(5,), (1, 7, 20)])
def test_other_records_are_refused(shape):
    with pytest.raises(UnsupportedModel, match="convolutional generators"):
        grid_of(shape)


def test_critics_judge_records_apart():
    x, critic = torch.rand(4, 1, 8, 8), ConvCritic((1, 8, 8), 1, 4)
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))


def test_the_middle_is_cut_out():
    assert cut(torch.arange(36.0).reshape(1, 1, 6, 6), (2, 4))[0, 0].tolist() == [[13, 14, 15, 16], [19, 20, 21, 22]]


def test_the_norm_is_looked_up_by_class():
    norm = ConditionalNorm(2, 3).eval()
    x = torch.rand(3, 2, 4, 4)
    torch.testing.assert_close(norm(x, torch.tensor([0, 1, 2])), x, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        norm.scale.weight[1], norm.shift.weight[1] = 3.0, 1.0
    torch.testing.assert_close(norm(x, torch.tensor([0, 1, 2]))[1], 3 * x[1] + 1, atol=1e-4, rtol=1e-4)


def test_the_discriminator_is_a_projection_of_bounded_weights():
    torch.manual_seed(0)
    judge = ProjectionDiscriminator((1, 8, 8), 4, 3).eval()
    x = torch.rand(2, 1, 8, 8)
    phi = judge.body(x).relu().sum(dim=(2, 3))
    for label in range(3):
        naive = phi @ judge.psi.weight[0] + judge.psi.bias + phi @ judge.embedding.weight[label]
        torch.testing.assert_close(judge(x, torch.full((2,), label)), naive)
    assert torch.linalg.matrix_norm(judge.embedding.weight, 2).item() == pytest.approx(1.0, abs=0.05)
