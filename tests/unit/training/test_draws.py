import numpy as np
import pytest
import torch
from scipy import stats

from sfumato.training.draws import Draws, fold, fold_indices

SEEDS = (3, 5, 8)
CALLS = {
    "permutation": lambda draws: draws.permutation("x", 6),
    "uniform": lambda draws: draws.uniform("x", 2, 3),
    "normal": lambda draws: draws.normal("x", 4),
    "beta": lambda draws: draws.beta("x", 0.5, 2.0),
    "integers": lambda draws: draws.integers("x", 9, 5),
    "keep": lambda draws: draws.keep("x", 0.5, 3, 4),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_model_draws_in_a_stack_what_it_draws_alone(kind):
    together = CALLS[kind](Draws(SEEDS, ("a", 1)))
    for index, seed in enumerate(SEEDS):
        assert torch.equal(together[index], CALLS[kind](Draws((seed,), ("a", 1)))[0])
    assert not torch.equal(together[0], together[1]) or kind == "keep"


@pytest.mark.parametrize("kind", CALLS)
def test_names_and_not_earlier_draws_decide(kind):
    draws = Draws(SEEDS)
    first = CALLS[kind](draws.at("a", 1))
    draws.normal("something else", 100)
    assert torch.equal(CALLS[kind](Draws(SEEDS).at("a").at(1)), first)
    assert not torch.equal(CALLS[kind](draws.at("a", "1")), first)


@pytest.mark.parametrize(
    ("kind", "dtype", "shape"),
    [
        ("permutation", torch.int64, (3, 6)),
        ("uniform", torch.float64, (3, 2, 3)),
        ("normal", torch.float64, (3, 4)),
        ("beta", torch.float64, (3,)),
        ("integers", torch.int64, (3, 5)),
        ("keep", torch.bool, (3, 3, 4)),
    ],
)
def test_shapes_and_dtypes(kind, dtype, shape):
    out = CALLS[kind](Draws(SEEDS))
    assert (out.dtype, tuple(out.shape)) == (dtype, shape)


def test_permutations_hold_every_position_once():
    rows = Draws(SEEDS).permutation("x", 50)
    assert torch.equal(rows.sort(dim=1).values, torch.arange(50).expand(3, 50))


def test_distributions():
    # fixed seeds; the Kolmogorov-Smirnov p-values of five right samples fall below 1e-4 once in 2,000 choices of seeds
    draws = Draws((1,))
    assert stats.kstest(draws.uniform("u", 5000)[0], "uniform").pvalue > 1e-4
    assert stats.kstest(draws.normal("n", 5000)[0], "norm").pvalue > 1e-4
    assert stats.kstest(draws.beta("b", 0.5, 2.0, 5000)[0], stats.beta(0.5, 2.0).cdf).pvalue > 1e-4
    assert stats.chisquare(np.bincount(draws.integers("i", 7, 7000)[0].numpy(), minlength=7)).pvalue > 1e-4
    assert stats.binomtest(int(draws.keep("k", 0.3, 5000).sum()), 5000, 0.3).pvalue > 1e-4


def test_fold_lays_models_out_one_after_the_other():
    per_model = torch.arange(12).reshape(2, 3, 2)
    assert torch.equal(fold(per_model), torch.arange(12).reshape(6, 2))
    assert fold_indices(torch.tensor([[2, 0, 1], [0, 1, 2]])).tolist() == [2, 0, 1, 3, 4, 5]
