import numpy as np
import pytest
from scipy.stats import norm

from sfumato.accounting.guarantee import guarantee
from sfumato.accounting.history import Event, History
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.accounting.tradeoff import least, tpr_bound
from sfumato.errors import UsageError

ADD = "ADD_OR_REMOVE_ONE"
FPRS = np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 1.0])
POISSON = PoissonGaussian(sample_rate=0.1, noise_multiplier=1.0, steps=20, adjacency=ADD)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (5.0, 10), (0.5, 1), (20.0, 1)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_gaussian_in_closed_form(noise, steps, size):
    truth = norm.cdf(norm.ppf(FPRS) + size * np.sqrt(steps) / noise)
    found = tpr_bound([Gaussian(noise_multiplier=noise, steps=steps, adjacency=ADD)], FPRS, size)
    assert (found >= truth * (1 - 1e-12)).all()
    assert found == pytest.approx(truth, rel=1e-3)


def test_exchanging_is_within_two_changes_and_more_than_one():
    replaced = PoissonGaussian(sample_rate=0.1, noise_multiplier=1.0, steps=20, adjacency="REPLACE_ONE")
    once, twice = tpr_bound([POISSON], FPRS), tpr_bound([POISSON], FPRS, POISSON.adjacency.swaps)
    exchanged = tpr_bound([replaced], FPRS, replaced.adjacency.swaps)
    assert (once <= exchanged + 1e-9).all()
    assert (exchanged <= twice * 1.001).all()


def test_the_optimal_attacks_on_one_sampled_step_stay_below_a_curve_that_is_no_higher_than_it_must_be():
    """The likelihood ratio rises with the outcome, so thresholds on it are the best attacks there are."""
    one = PoissonGaussian(sample_rate=0.3, noise_multiplier=0.7, steps=1, adjacency=ADD)
    x = np.linspace(-8, 9, 20_001)
    absent, present = norm.pdf(x, 0, 0.7), 0.7 * norm.pdf(x, 0, 0.7) + 0.3 * norm.pdf(x, 1, 0.7)
    without, within = (np.cumsum(density[::-1])[::-1] * (x[1] - x[0]) for density in (absent, present))
    epsilons = np.linspace(0, 20, 1000)
    pairs = ((present, absent), (absent, present))
    deltas = [[np.maximum(0, p - np.exp(e) * q).sum() * (x[1] - x[0]) for e in epsilons] for p, q in pairs]
    for fprs, tprs in ((without, within), (1 - within, 1 - without)):  # either data set may count as positive
        at = np.clip(fprs[::400], 0, 1)
        bound = tpr_bound([one], at)
        assert (tprs[::400] <= bound + 1e-6).all()
        assert bound == pytest.approx(least(at, epsilons, np.max(deltas, axis=0)), abs=1e-3)


def test_a_guarantee_permits_the_curve_of_its_mechanisms():
    facts = {"delta": 1e-5, "unit": "example", "audit_only": False}
    found = guarantee(History((Event("training", "noisy steps", 1, POISSON.plain() | facts),)))
    assert tpr_bound(found, FPRS) == pytest.approx(tpr_bound([POISSON], FPRS))


def test_the_ends_and_the_shape():
    curve = tpr_bound([POISSON], np.linspace(0, 1, 200))
    assert curve[0] < 1e-6
    assert curve[-1] == 1
    assert (np.diff(curve) >= 0).all()
    assert (np.diff(curve, 2) <= 1e-9).all()
    assert (curve >= np.linspace(0, 1, 200)).all()


def test_no_steps_permit_guessing_and_no_noise_everything():
    assert tpr_bound([], FPRS) == pytest.approx(FPRS)
    assert tpr_bound([POISSON.lasting(0)], FPRS) == pytest.approx(FPRS)
    assert tpr_bound([Gaussian(noise_multiplier=0, steps=1, adjacency=ADD)], FPRS) == pytest.approx(1)


def test_one_pair_of_lines():
    found = least(np.array([0.0, 0.1, 0.9]), np.array([np.log(2)]), np.array([0.01]))
    assert found == pytest.approx([0.01, 0.21, 1 - 0.5 * 0.09])


@pytest.mark.parametrize(("fprs", "size"), [([1.5], 1), ([-0.1], 1), ([np.nan], 1), ([0.1], 0)])
def test_rates_and_sizes_are_checked(fprs, size):
    with pytest.raises(UsageError):
        tpr_bound([POISSON], fprs, size)
