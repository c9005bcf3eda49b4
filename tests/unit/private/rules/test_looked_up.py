import pytest
import torch

from sfumato.private.rules.linear import LinearWeight
from sfumato.private.rules.looked_up import LookedUp, Tied


def one_hot_gradient(index, grad, words):
    """[units, words, d], the slow way."""
    hot = torch.nn.functional.one_hot(index, words).to(grad.dtype)
    return torch.einsum("utv,utd->uvd", hot, grad)


def drawn(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return torch.randint(0, 5, (3, 6)), torch.randn(3, 6, 4, dtype=dtype)


@pytest.mark.parametrize("units", [3, 1])
def test_norms_gradients_and_sums_agree_with_one_hot(units):
    index, grad = drawn()
    term = LookedUp(index, torch.empty(5, 4))
    expected = one_hot_gradient(index, grad, 5).view(units, -1, 5, 4).sum(1)
    torch.testing.assert_close(term.instantiate(grad, units, "dense"), expected)
    torch.testing.assert_close(term.squared_norms(grad, units, "gram"), expected.square().sum((1, 2)))
    factors = torch.rand(units, dtype=torch.float64)
    torch.testing.assert_close(term.weighted_sum(grad, factors), torch.einsum("u,uvd->vd", factors, expected))


def test_factors_of_positions_scale_them_and_zero_leaves_them_out():
    index, grad = drawn()
    factors = torch.tensor([[0.0, 2.0, 1.0, -1.0, 0.5, 0.0]], dtype=torch.float64).repeat(3, 1)
    term = LookedUp(index, torch.empty(5, 4), factors)
    expected = one_hot_gradient(index, grad * factors.unsqueeze(2), 5)
    torch.testing.assert_close(term.instantiate(grad, 3, "dense"), expected)
    torch.testing.assert_close(term.squared_norms(grad, 3, "gram"), expected.square().sum((1, 2)))


def test_a_buffer_that_held_other_numbers_is_overwritten():
    index, grad = drawn()
    out = torch.full((3, 5, 4), float("nan"), dtype=torch.float64)
    assert LookedUp(index, torch.empty(5, 4)).instantiate(grad, 3, "dense", out) is out
    torch.testing.assert_close(out, one_hot_gradient(index, grad, 5))


@pytest.mark.parametrize("seed", range(5))
def test_norms_in_float32_are_not_below_the_truth_where_positions_cancel(seed):
    index, grad = drawn(seed, torch.float32)
    index[:], grad[:, 3:] = index[:, :1], -grad[:, :3] * (1 + 1e-6)
    grad *= 1e4
    norms = LookedUp(index, torch.empty(5, 4)).squared_norms(grad, 3, "gram")
    truth = one_hot_gradient(index, grad.double(), 5).square().sum((1, 2))
    assert (norms.double() >= truth).all()


@pytest.mark.parametrize("cancel", [False, True])
def test_tied_norms_are_those_of_the_sum(cancel):
    torch.manual_seed(0)
    index, into = drawn()
    seen, logits = torch.randn(3, 2, 4, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)
    if cancel:  # the head's gradient is minus the table's
        index, into, logits = index[:, :2], -seen, torch.nn.functional.one_hot(index[:, :2], 5).double()
    head = LinearWeight(seen, torch.empty(5, 4))
    term = Tied(LookedUp(index, torch.empty(5, 4)), into, head)
    expected = one_hot_gradient(index, into, 5) + torch.einsum("usv,usd->uvd", logits, seen)
    torch.testing.assert_close(term.instantiate(logits, 3, "product"), expected)
    torch.testing.assert_close(
        term.squared_norms(logits, 3, "gram"), expected.square().sum((1, 2)), atol=1e-11, rtol=1e-9
    )
    factors = torch.rand(3, dtype=torch.float64)
    torch.testing.assert_close(term.weighted_sum(logits, factors), torch.einsum("u,uvd->vd", factors, expected))


def test_tied_norms_in_float32_are_not_below_the_truth_where_head_and_table_cancel():
    torch.manual_seed(0)
    index, seen = torch.randint(0, 5, (3, 2)), torch.randn(3, 2, 4) * 1e3
    logits = torch.nn.functional.one_hot(index, 5).float()
    into = -seen * (1 + 1e-6)
    term = Tied(LookedUp(index, torch.empty(5, 4)), into, LinearWeight(seen, torch.empty(5, 4)))
    truth = one_hot_gradient(index, into.double(), 5) + torch.einsum("usv,usd->uvd", logits.double(), seen.double())
    assert (term.squared_norms(logits, 3, "gram").double() >= truth.square().sum((1, 2))).all()


def test_uses_join_only_with_heads():
    index, grad = drawn()
    table, head = LookedUp(index, torch.empty(5, 4)), LinearWeight(torch.randn(3, 2, 4), torch.empty(5, 4))
    joined = LookedUp.joined([table, table], [grad, grad], 3)
    assert joined is not None
    assert joined[0].saved[0].shape == (3, 12)
    tied = LookedUp.joined([head, table], [torch.randn(3, 2, 5, dtype=torch.float64), grad], 3)
    assert tied is not None
    assert isinstance(tied[0], Tied)
    assert LookedUp.joined([head, head], [grad, grad], 3) is None
    assert LinearWeight.joined([head, table], [grad, grad], 3) is None
