import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.accountants.rdp import RDP
from sfumato.accounting.accountants.rdp_classic import ClassicRDP
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import NotApplicable

ADD = "ADD_OR_REMOVE_ONE"


def poisson(rate=0.01, noise=1.0, steps=1000, adjacency=ADD):
    return PoissonGaussian(sample_rate=rate, noise_multiplier=noise, steps=steps, adjacency=adjacency)


def gaussian_epsilon(mu, delta):
    """Balle and Wang 2018, Theorem 8."""
    excess = lambda e: norm.cdf(mu / 2 - e / mu) - np.exp(e + norm.logcdf(-mu / 2 - e / mu)) - delta  # noqa: E731
    return brentq(excess, 0, mu**2 + 20 * mu + 1) if excess(0) > 0 else 0.0


def test_the_known_value():
    known = [poisson(256 / 60_000, 0.8, 14_062)]
    assert PLD().epsilon(known, 1e-6) == pytest.approx(5.14, abs=0.004)
    assert RDP().epsilon(known, 1e-6) == pytest.approx(5.60, abs=0.004)
    assert 6.215 <= ClassicRDP().epsilon(known, 1e-6) <= 6.23


@pytest.mark.parametrize(
    ("noise", "steps"), [(0.3, 1), (0.3, 1_000_000), (1.0, 1), (5.0, 10), (5.0, 100_000), (100, 1)]
)
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-10])
def test_the_gaussian_in_closed_form(noise, steps, delta):
    truth = gaussian_epsilon(math.sqrt(steps) / noise, delta)
    found = [Gaussian(noise_multiplier=noise, steps=steps, adjacency=ADD)]
    assert truth <= PLD().epsilon(found, delta) <= truth * 1.004 + 2e-5
    assert PLD().epsilon([poisson(1.0, noise, steps)], delta) == pytest.approx(PLD().epsilon(found, delta), rel=3e-3)


def test_replacing_is_a_shift_of_two():
    one = Gaussian(noise_multiplier=4.0, steps=7, adjacency="REPLACE_ONE")
    assert PLD().epsilon([one], 1e-5) == pytest.approx(gaussian_epsilon(2 * math.sqrt(7) / 4, 1e-5), rel=3e-3)
    assert RDP().epsilon([one], 1e-5) >= PLD().epsilon([one], 1e-5)


def test_a_zeroed_unit_costs_what_an_added_one_costs():
    assert PLD().epsilon([poisson(adjacency="REPLACE_SPECIAL")], 1e-5) == PLD().epsilon([poisson()], 1e-5)


def test_renyi_says_that_it_does_not_cover_replacement_under_sampling():
    with pytest.raises(NotApplicable, match="REPLACE_ONE"):
        RDP().epsilon([poisson(adjacency="REPLACE_ONE")], 1e-5)


def test_different_mechanisms_are_composed_whatever_their_order():
    first, second = poisson(), poisson(0.05, 3.0, 40)
    both = PLD().epsilon([first, second], 1e-5)
    assert both == pytest.approx(PLD().epsilon([second, first], 1e-5), rel=1e-9)
    parts = PLD().epsilon([first], 1e-5), PLD().epsilon([second], 1e-5)
    assert max(parts) < both < sum(PLD().epsilon([part], 5e-6) for part in (first, second))
    assert both <= RDP().epsilon([first, second], 1e-5)


def test_equal_runs_add_their_steps():
    assert PLD().epsilon([poisson(steps=400), poisson(steps=600)], 1e-5) == pytest.approx(
        PLD().epsilon([poisson()], 1e-5), rel=1e-6
    )


def test_a_tiny_delta_keeps_its_digits():
    """At a million steps rounding in the transform is far above this delta; Chernoff's bound stays above it."""
    many = [poisson(0.01, 5.0, 1_000_000)]
    found = PLD().epsilon(many, 1e-12)
    assert 0.9 * RDP().epsilon(many, 1e-12) < found < RDP().epsilon(many, 1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-6, 0).map(lambda x: 10**x),
    st.floats(-0.5, 2).map(lambda x: 10**x),
    st.floats(0, 6).map(lambda x: int(10**x)),
    st.floats(-10, -2).map(lambda x: 10**x),
)
def test_no_setting_of_the_grid_breaks_it_and_each_number_counts_the_right_way(rate, noise, steps, delta):
    epsilon = PLD().epsilon([poisson(rate, noise, steps)], delta)
    assert 0 <= epsilon < math.inf
    more = [
        ((rate, noise * 1.3, steps), -1),
        ((min(1.0, rate * 1.3), noise, steps), 1),
        ((rate, noise, int(steps * 1.3) + 1), 1),
    ]
    for setting, sign in more:
        assert sign * (PLD().epsilon([poisson(*setting)], delta) - epsilon) >= -5e-3 * epsilon - 2e-5
    assert PLD().epsilon([poisson(rate, noise, steps)], min(0.5, delta * 3)) <= epsilon * 1.003 + 2e-5


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    st.floats(-6, 0).map(lambda x: 10**x),
    st.floats(-0.53, 2).map(lambda x: 10**x),
    st.floats(0, 6).map(lambda x: int(10**x)),
    st.sampled_from([ADD, "REPLACE_ONE"]),
    st.sampled_from([1e-12, 1e-8, 1e-5, 1e-2]),
)
def test_nothing_on_the_whole_grid_breaks_it(rate, noise, steps, adjacency, delta):
    one = poisson(rate, noise, steps, adjacency)
    assert 0 <= PLD().epsilon([one], delta) < math.inf
    if adjacency == ADD:
        assert 0 <= RDP().epsilon([one], delta) <= ClassicRDP().epsilon([one], delta) + 1e-9 < math.inf
