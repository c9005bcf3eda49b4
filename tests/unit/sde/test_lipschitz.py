import itertools

import pytest
import torch
from torch import nn

from sfumato.errors import NotPrivateError
from sfumato.sde.lipschitz import ACTIVATIONS, REFUSED, convolution_norm, enforced, matrix_norm, refuse_unbounded


def as_matrix(conv, shape):
    """The convolution as a matrix, column by column."""
    size = torch.tensor(shape).prod()
    eye = torch.eye(int(size), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return (conv(eye) - conv(torch.zeros_like(eye))).flatten(1).T


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("width", "padding", "side"), [(3, 1, (5, 4)), (3, 0, (4, 4)), (5, 2, (3, 6)), (1, 0, (4, 4))])
def test_the_bound_of_a_convolution_is_one_and_not_far_above(seed, width, padding, side):
    torch.manual_seed(seed)
    conv = nn.Conv2d(2, 3, width, padding=padding, dtype=torch.float64)
    true = torch.linalg.matrix_norm(as_matrix(conv, (2, *side)), ord=2)
    bound = convolution_norm(conv.weight, side)
    assert true <= bound * (1 + 1e-12)
    assert bound <= 1.6 * true


def test_one_axis_and_three():
    for axes, kind in ((1, nn.Conv1d), (3, nn.Conv3d)):
        conv = kind(2, 2, 3, padding=1, dtype=torch.float64)
        true = torch.linalg.matrix_norm(as_matrix(conv, (2, *(4,) * axes)), ord=2)
        assert true <= convolution_norm(conv.weight, (4,) * axes) * (1 + 1e-12)


def test_the_bound_of_an_all_ones_kernel_is_its_sum():
    assert float(convolution_norm(torch.ones(1, 1, 3, 3), (7, 7))) == pytest.approx(9)


NETS = {
    "linear": ([nn.Linear(4, 4)], (4,)),
    "two layers": ([nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 4)], (4,)),
    "convolutions": ([nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 2, 3, padding=1)], (2, 4, 4)),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("lipschitz", [0.3, 2.0])
def test_no_two_states_are_stretched_by_more_than_the_constant(name, lipschitz):
    """Weights far too large; pairs along the steepest direction at random states, by finite differences."""
    torch.manual_seed(0)
    layers, shape = NETS[name]
    layers = [layer.double() for layer in layers]
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=3.0 * (parameter.dim() > 1))
    apply, constant = enforced(layers, lipschitz, shape)
    steepest = 0.0
    for _ in range(30):
        h = 0.01 * torch.randn(shape, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda h: apply(h[None])[0], h)
        steepest = max(steepest, float(torch.linalg.matrix_norm(jacobian.reshape(h.numel(), -1), ord=2)))
    assert constant == lipschitz
    assert 0.3 * lipschitz < steepest <= lipschitz


def test_layers_within_their_share_stay_as_they_are():
    layer = nn.Linear(3, 3)
    nn.init.eye_(layer.weight)
    h = torch.randn(5, 3)
    assert torch.equal(enforced([layer], 1.01, (3,)).apply(h), layer(h))
    halved = enforced([layer], 0.5, (3,)).apply(h) - layer.bias
    assert torch.allclose(halved, 0.5 * h, atol=1e-4)


def test_gradients_reach_the_weights():
    layer = nn.Linear(3, 3)
    nn.init.normal_(layer.weight, std=5.0)
    enforced([layer], 1.0, (3,)).apply(torch.randn(2, 3)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_weights_that_are_not_finite_are_refused():
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    with pytest.raises((NotPrivateError, RuntimeError)):
        enforced([layer], 1.0, (3,))
    conv = nn.Conv2d(1, 1, 3)
    with torch.no_grad():
        conv.weight.fill_(float("inf"))
    with pytest.raises((NotPrivateError, RuntimeError)):
        enforced([conv], 1.0, (1, 4, 4))


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda k: k.__name__)
def test_activations_have_slopes_of_at_most_one(kind):
    x = torch.linspace(-30, 30, 100_001, dtype=torch.float64)
    slopes = kind()(x).diff() / x.diff()
    assert float(slopes.abs().max()) <= 1 + 1e-9


MADE = {
    nn.GroupNorm: lambda: nn.GroupNorm(2, 4),
    nn.Dropout: nn.Dropout,
    nn.Dropout2d: nn.Dropout2d,
    nn.AlphaDropout: nn.AlphaDropout,
}


@pytest.mark.parametrize("kind", REFUSED, ids=lambda k: k.__name__)
def test_each_kind_is_refused_by_name_and_with_its_reason(kind):
    takes_none = kind in (nn.SiLU, nn.GELU, nn.Mish, nn.Hardswish, nn.SELU, nn.Softplus)
    layer = MADE[kind]() if kind in MADE else kind() if takes_none else kind(4)
    with pytest.raises(NotPrivateError) as refused:
        refuse_unbounded([nn.Linear(4, 4), layer])
    assert kind.__name__ in str(refused.value)
    assert REFUSED[kind] in str(refused.value)
    assert "at 1" in str(refused.value)


class Louder(nn.Linear):
    def forward(self, h):
        return 100 * super().forward(h)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, stride=2),
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(2, 2, 3),
        nn.ReLU(inplace=True),
        nn.Bilinear(2, 2, 2),
        nn.Sequential(nn.Linear(2, 2)),
        Louder(2, 2),
    ],
    ids=lambda layer: str(layer)[:40],
)
def test_what_is_not_known_is_refused(layer):
    with pytest.raises(NotPrivateError, match=type(layer).__name__):
        refuse_unbounded([layer])
    with pytest.raises(NotPrivateError, match=type(layer).__name__):
        enforced([layer], 1.0, (2, 4, 4))


def test_the_norm_of_a_matrix_is_its_largest_singular_value():
    torch.manual_seed(0)
    for rows, columns in itertools.product((1, 5), (1, 7)):
        weight = torch.randn(rows, columns)
        assert float(matrix_norm(weight)) == pytest.approx(float(torch.linalg.svdvals(weight.double())[0]))
