import math

import numpy as np
import pytest
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.guarantee import Guarantee
from sfumato.accounting.local import (
    InputGuarantee,
    Path,
    calibrate_sigma,
    gaussian_delta,
    gaussian_epsilon,
    input_guarantee,
    local_epsilon,
    local_mu,
    local_rdp,
    renyi_epsilon,
    shift_sum,
)
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.errors import UsageError

ALPHA = 3.0


def path(slope, steps, sigma=1.0, horizon=1.0):
    return Path(sigma, horizon / steps, (1 + slope * horizon / steps,) * steps)


def in_units(slope, steps):
    """The bound over alpha D^2 / sigma^2, for T = 1."""
    return local_rdp(ALPHA, 2.0, path(slope, steps, sigma=0.5)) / (ALPHA * 2.0**2 / 0.5**2)


def limit(slope):
    """Continuous time: L / (1 - e^(-2 L T)), and 1 / (2 T) without drift."""
    return 0.5 if slope == 0 else slope / -math.expm1(-2 * slope)


def test_the_known_value_of_ten_steps_and_of_continuous_time():
    assert in_units(3.0, 10) == pytest.approx(3.468, abs=5e-4)
    assert limit(3.0) == pytest.approx(3.007, abs=5e-4)


@pytest.mark.parametrize("slope", [1.0, 3.0])
def test_of_expansive_drift_few_steps_hide_less_than_continuous_time(slope):
    assert in_units(slope, 10) > in_units(slope, 100) > limit(slope)
    assert in_units(slope, 100_000) == pytest.approx(limit(slope), rel=1e-4)


def test_without_drift_steps_do_not_matter_and_contraction_helps():
    assert in_units(0.0, 10) == pytest.approx(0.5)
    assert in_units(0.0, 100) == pytest.approx(0.5)
    assert in_units(-1.0, 10) < in_units(-1.0, 100) < limit(-1.0) < 0.5


def test_the_sum_counts_the_first_step_once():
    assert shift_sum((2.0,)) == 1 / 4
    assert shift_sum((2.0, 0.5, 3.0)) == pytest.approx(1 / 4 + 1 + 1 / 9)
    assert shift_sum((1.1,) * 7) == pytest.approx(sum(1.1 ** (-2 * k) for k in range(1, 8)))


def test_a_step_that_forgets_hides_everything():
    forgets = Path(1.0, 0.5, (1.0, 0.0))
    assert shift_sum(forgets.factors) == math.inf
    assert local_mu(5.0, forgets) == 0
    assert local_epsilon(1e-5, 5.0, forgets, queries=1) == 0


@pytest.mark.parametrize("factors", [(), (-1.0,), (math.inf,), (math.nan,)])
def test_steps_without_a_constant_are_refused(factors):
    with pytest.raises(UsageError, match="Lipschitz constant"):
        shift_sum(factors)


def test_queries_add_up():
    one, four = (local_rdp(ALPHA, 1.0, path(1.0, 5), queries) for queries in (1, 4))
    assert four == pytest.approx(4 * one)


@pytest.mark.parametrize(("epsilon", "noise"), [(1, 3.73), (2, 1.99), (4, 1.08), (8, 0.600), (16, 0.344)])
def test_the_effective_noise_of_the_usual_epsilons(epsilon, noise):
    for slope, steps in ((0.0, 4), (2.0, 8)):
        dt, factors = path(slope, steps)[1:]
        sigma = calibrate_sigma(epsilon, 1e-5, 3.0, dt, factors, queries=1, linear=True)
        assert sigma * math.sqrt(dt * shift_sum(factors)) / 3.0 == pytest.approx(noise, rel=3e-3)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("queries", [1, 100])
@pytest.mark.parametrize("epsilon", [0.1, 8.0])
def test_calibrated_noise_keeps_the_target_and_not_much_more(linear, queries, epsilon):
    dt, factors = path(1.5, 6)[1:]
    given = {"queries": queries, "linear": linear}
    sigma = calibrate_sigma(epsilon, 1e-6, 2.0, dt, factors, **given)
    assert 0.9999 * epsilon <= local_epsilon(1e-6, 2.0, Path(sigma, dt, factors), **given) <= epsilon
    assert local_epsilon(1e-6, 2.0, Path(0.999 * sigma, dt, factors), **given) > epsilon


def test_calibration_refuses_what_cannot_be():
    with pytest.raises(UsageError, match="something is to be hidden"):
        calibrate_sigma(1.0, 1e-5, 0.0, 0.1, (1.0,), queries=1)
    with pytest.raises(UsageError, match="target_epsilon"):
        calibrate_sigma(0.0, 1e-5, 1.0, 0.1, (1.0,), queries=1)


@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.1])
@pytest.mark.parametrize("mu", [0.02, 0.5, 3.0, 30.0])
def test_the_gaussian_epsilon_is_the_accountants(mu, delta):
    one = Gaussian(noise_multiplier=1 / mu, steps=1, adjacency="ADD_OR_REMOVE_ONE")
    found, other = gaussian_epsilon(delta, mu), PLD().epsilon([one], delta)
    assert other * (1 - 2e-3) - 1e-5 <= found <= other * (1 + 1e-5) + 1e-9
    if found > 0:
        assert gaussian_delta(found, mu) == pytest.approx(delta, rel=1e-3)
        assert gaussian_delta(found, mu) <= delta


@pytest.mark.parametrize("mu", [0.02, 0.5, 3.0, 30.0])
def test_the_general_epsilon_lies_a_little_above(mu):
    gaussian, general = gaussian_epsilon(1e-5, mu), renyi_epsilon(1e-5, mu)
    assert gaussian <= general <= 1.3 * gaussian
    orders = 1 + np.logspace(-2, 4, 3000)
    assert general == pytest.approx(compute_epsilon(orders, orders * mu**2 / 2, 1e-5)[0], rel=0.01)


def test_a_record_in_the_drift_costs_what_girsanov_says():
    """alpha M^2 T / (2 sigma^2), however many steps, where both begin in one place."""
    for steps in (1, 10, 100):
        found = local_rdp(ALPHA, 0.0, path(2.0, steps, sigma=0.7, horizon=3.0), drift_difference=0.4)
        assert found == pytest.approx(ALPHA * 0.4**2 * 3.0 / (2 * 0.7**2))


def test_both_together_cost_more_than_each_and_no_more_than_mu_plus_mu():
    way = path(1.0, 8)
    start, drift = local_mu(1.5, way), local_mu(0.0, way, drift_difference=0.5)
    assert max(start, drift) < local_mu(1.5, way, drift_difference=0.5) <= start + drift + 1e-12
    assert local_mu(1.5, way, drift_difference=1e-12) == pytest.approx(start)


@pytest.mark.parametrize(
    "call",
    [
        lambda: local_rdp(1.0, 1.0, path(0, 2)),
        lambda: local_mu(-1.0, path(0, 2)),
        lambda: local_mu(1.0, path(0, 2), queries=0),
        lambda: local_mu(1.0, path(0, 2, sigma=0.0)),
        lambda: local_mu(1.0, Path(1.0, 0.0, (1.0,))),
        lambda: gaussian_epsilon(0.0, 1.0),
        lambda: renyi_epsilon(1.0, 1.0),
    ],
)
def test_numbers_out_of_range_are_refused(call):
    with pytest.raises(UsageError):
        call()


def test_the_sentence_is_about_the_input_of_a_query_and_nothing_else():
    found = input_guarantee(1e-5, 2.0, path(1.0, 4), queries=3, linear=False, audit_only=False)
    assert found.epsilon == local_epsilon(1e-5, 4.0, path(1.0, 4), queries=3)
    for part in ("the input of a query, not the training data", "for 3 answers", "norm 2 or less", "delta 1e-05"):
        assert part in found.statement
    assert "audit run" not in found.statement
    assert not isinstance(found, Guarantee)
    seeded = InputGuarantee(**{**vars(found), "audit_only": True, "queries": 1, "linear": True})
    assert "audit run: the noise came from a seed" in seeded.statement
    assert "for one answer" in seeded.statement
    assert "linear drift" in seeded.statement
