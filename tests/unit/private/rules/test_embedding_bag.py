import pytest
import torch

from sfumato.private.rules.embedding import factors_of
from sfumato.private.rules.embedding_bag import Largest


def test_padding_counts_from_the_end_when_negative():
    index, weight = torch.tensor([[0, 4, 3]]), torch.empty(5, 2, dtype=torch.float64)
    assert factors_of(index, weight, None) is None
    assert torch.equal(factors_of(index, weight, -1), torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64))
    assert torch.equal(factors_of(index, weight, 0), torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize("units", [4, 2])
def test_the_largest_numbers_get_the_gradient(units):
    torch.manual_seed(0)
    index, grad = torch.randint(0, 5, (4, 3)), torch.randn(4, 3, dtype=torch.float64)
    index[1] = index[0]  # rows of one unit that took the same numbers
    counted = torch.ones(4, 3, dtype=torch.float64)
    counted[2] = 0
    expected = torch.zeros(4, 5, 3, dtype=torch.float64).scatter_(1, index.unsqueeze(1), (grad * counted).unsqueeze(1))
    expected = expected.view(units, -1, 5, 3).sum(1)
    term, factors = Largest(index, counted, torch.empty(5, 3)), torch.rand(units, dtype=torch.float64)
    torch.testing.assert_close(term.instantiate(grad, units, "dense"), expected)
    out = torch.empty_like(expected)
    assert term.instantiate(grad, units, "dense", out) is out
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(term.squared_norms(grad, units, "gram"), expected.square().sum((1, 2)))
    torch.testing.assert_close(term.weighted_sum(grad, factors), torch.einsum("u,uvd->vd", factors, expected))
