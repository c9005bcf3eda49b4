import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sfumato.errors import UsageError
from sfumato.private.radius import WithinRadius, within


@settings(max_examples=300, deadline=None)
@given(arrays("float32", (3, 2, 5), elements=st.floats(width=32)), st.floats(0.01, 1000))
def test_no_row_is_longer_whatever_it_holds(x, radius):
    found = within(torch.from_numpy(x), radius)
    assert float(torch.linalg.vector_norm(found.double().flatten(1), dim=1).max()) <= radius


def test_no_row_is_longer_where_the_factor_would_underflow():
    found = within(torch.full((1, 10), 6.428136e37), 0.125)
    assert float(torch.linalg.vector_norm(found.double())) == pytest.approx(0.125, rel=2e-6)
    assert float(torch.linalg.vector_norm(found.double())) <= 0.125


def test_shorter_rows_stay_and_longer_ones_keep_their_direction():
    x = torch.tensor([[0.3, 0.4], [30.0, 40.0], [0.0, 0.0]])
    found = within(x, 1.0)
    assert torch.equal(found[0], x[0])
    assert found[1].tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    assert torch.equal(found[2], x[2])


def test_many_small_values_are_summed_without_loss():
    x = torch.full((1, 4_000_000), 1e-3)  # norm 2
    assert float(torch.linalg.vector_norm(within(x, 1.0).double())) == pytest.approx(1.0, rel=2e-6)
    assert float(torch.linalg.vector_norm(within(x, 1.0).double())) <= 1.0


def test_the_layer_says_its_radius_and_keeps_no_tensors():
    layer = WithinRadius(2.0)
    assert "radius=2" in str(layer)
    assert list(layer.state_dict()) == []
    assert layer(torch.tensor([[8.0]])).item() == pytest.approx(2.0, rel=1e-5)
    with pytest.raises(UsageError, match="radius"):
        WithinRadius(0.0)


def test_gradients_are_finite_at_zero():
    x = torch.zeros(2, 3, requires_grad=True)
    within(x, 1.0).sum().backward()
    assert torch.equal(x.grad, torch.ones(2, 3))
