"""Bounds on reconstruction: the reference values, and that all forms agree where they must."""

from statistics import NormalDist

import numpy as np
import pytest

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.accounting.reconstruction import renyi_form, rero_bound, rero_gaussian, rero_rdp, rero_subsampled
from sfumato.errors import NotApplicable, UsageError

ADD = Adjacency.ADD_OR_REMOVE_ONE
KAPPA = [1 / 256, 0.1, 0.5]


def gaussian(noise, steps=1, adjacency=ADD):
    return [Gaussian(noise_multiplier=noise, steps=steps, adjacency=adjacency)]


def sampled(noise, steps, rate=0.1, adjacency=ADD):
    return [PoissonGaussian(noise_multiplier=noise, steps=steps, adjacency=adjacency, sample_rate=rate)]


@pytest.mark.parametrize(("noise", "known"), [(1, 0.0485), (2, 0.0154), (5, 0.0070), (10, 0.0052)])
def test_the_closed_form_has_the_known_values(noise, known):
    assert float(rero_gaussian([1 / 256], noise)[0]) == pytest.approx(known, abs=6e-5)


def test_the_closed_form_is_that_of_the_standard_library():
    normal = NormalDist()
    exact = normal.cdf(normal.inv_cdf(1 / 256) + 3 / 5)
    assert float(rero_gaussian([1 / 256], 5.0, steps=9)[0]) == pytest.approx(exact, rel=1e-9)


def test_the_closed_form_knows_steps_and_groups():
    assert rero_gaussian(KAPPA, 2.0, steps=16) == pytest.approx(rero_gaussian(KAPPA, 0.5))
    assert rero_gaussian(KAPPA, 2.0, group_size=4) == pytest.approx(rero_gaussian(KAPPA, 0.5))
    assert rero_gaussian(KAPPA, 2.0, steps=0) == pytest.approx(KAPPA)


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_the_trade_off_curve_agrees_with_the_closed_form(noise):
    found, exact = rero_bound(gaussian(noise, 4), KAPPA), rero_gaussian(KAPPA, noise, 4)
    assert np.all(found >= exact - 1e-9)
    assert found == pytest.approx(exact, rel=5e-3)


def test_a_group_agrees_with_the_closed_form_and_one_replacement_counts_as_two_changes():
    exact = rero_gaussian(KAPPA, 4.0, group_size=3)
    found = rero_bound(gaussian(4.0), KAPPA, group_size=3)
    assert np.all(found >= exact - 1e-9)
    assert found == pytest.approx(exact, rel=1e-2)
    replaced = rero_bound(gaussian(4.0, adjacency=Adjacency.REPLACE_ONE), KAPPA)
    assert replaced == pytest.approx(rero_gaussian(KAPPA, 4.0, group_size=2), rel=5e-3)


def test_monte_carlo_agrees_with_the_closed_form_without_sampling():
    """Error rate at most 0.003: three priors, one seed, limits at 99.9%."""
    found = rero_subsampled(KAPPA, 2.0, 1.0, 4, samples=20_000, confidence=0.999)
    exact = rero_gaussian(KAPPA, 2.0, 4)
    assert np.all((found.low <= exact) & (exact <= found.high))
    assert np.all((found.low <= found.estimate) & (found.estimate <= found.high))
    assert np.all(found.high - found.low < 0.06)


def test_under_sampling_the_trade_off_curve_is_above_monte_carlo_and_near_it():
    """Error rate at most 0.003, as above."""
    found = rero_subsampled(KAPPA, 1.0, 0.1, 20, samples=20_000, confidence=0.999)
    bound = rero_bound(sampled(1.0, 20), KAPPA)
    assert np.all(bound >= found.low)
    assert np.all(bound <= found.high + 0.06)
    assert np.all(found.high < rero_gaussian(KAPPA, 1.0, 20))


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_one_sampled_step_has_a_closed_form_too(rate):
    """The unit takes part or does not: (1 - q) kappa + q Phi(Phi^-1(kappa) + 1 / sigma). Error rate at most 0.003."""
    found = rero_subsampled(KAPPA, 0.5, rate, 1, samples=20_000, confidence=0.999)
    exact = (1 - rate) * np.array(KAPPA) + rate * rero_gaussian(KAPPA, 0.5)
    assert np.all((found.low <= exact) & (exact <= found.high))
    assert np.all(rero_bound(sampled(0.5, 1, rate), KAPPA) >= exact - 1e-9)


def test_what_the_samples_cannot_resolve_is_not_bounded():
    found = rero_subsampled([1e-4], 1.0, 1.0, 1, samples=200)
    assert found.low[0] == pytest.approx(1e-4)
    assert found.high[0] > rero_gaussian([1e-4], 1.0)[0]
    assert rero_subsampled([1.0], 1.0, 1.0, 1, samples=200).high[0] == 1.0


def test_a_seed_repeats_the_draws():
    first, again, other = (rero_subsampled([0.1], 1.0, 0.5, 2, samples=1000, seed=s).estimate[0] for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("form", [rero_bound, rero_rdp])
def test_more_noise_permits_less_and_more_steps_or_a_higher_prior_permit_more(form):
    assert np.all(np.diff(form(sampled(1.0, 20), KAPPA)) > 0)
    assert np.all(form(sampled(2.0, 20), KAPPA) < form(sampled(1.0, 20), KAPPA))
    assert np.all(form(sampled(1.0, 40), KAPPA) > form(sampled(1.0, 20), KAPPA))


@pytest.mark.parametrize("mechanisms", [gaussian(1.0), gaussian(4.0, 9), sampled(1.0, 20)])
def test_the_renyi_form_is_looser(mechanisms):
    assert np.all(rero_rdp(mechanisms, KAPPA) > rero_bound(mechanisms, KAPPA))


def test_the_renyi_form_by_hand():
    """Order 2 with divergence ln 2: sqrt(2 kappa)."""
    assert renyi_form(np.array([0.02]), np.array([2.0]), np.array([np.log(2)]))[0] == pytest.approx(0.2)
    assert renyi_form(np.array([0.9]), np.array([2.0]), np.array([9.0]))[0] == 1.0
    assert renyi_form(np.array([0.9]), np.array([1.0]), np.array([0.0]))[0] == 1.0


def test_nothing_released_permits_the_prior_and_no_noise_permits_all():
    for form in (rero_bound, rero_rdp):
        assert form(gaussian(1.0, steps=0), KAPPA) == pytest.approx(KAPPA)
        assert form(gaussian(0.0), KAPPA) == pytest.approx(1.0)


@pytest.mark.parametrize("priors", [[0.0], [1.1], [float("nan")]])
def test_a_prior_that_is_none_is_refused(priors):
    with pytest.raises(UsageError, match="priors"):
        rero_bound(gaussian(1.0), priors)


def test_the_renyi_form_refuses_what_it_does_not_cover():
    with pytest.raises(NotApplicable):
        rero_rdp(sampled(1.0, 2, adjacency=Adjacency.REPLACE_ONE), KAPPA)
