import pytest

from sfumato.accounting import calibrate
from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.calibrate import (
    Target,
    calibrate_noise,
    calibrate_sample_rate,
    calibrate_steps,
)
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import UsageError

ADD = "ADD_OR_REMOVE_ONE"


def spent(rate, noise, steps, delta=1e-5, adjacency=ADD, alongside=()):
    one = PoissonGaussian(sample_rate=rate, noise_multiplier=noise, steps=steps, adjacency=adjacency)
    return PLD().epsilon([*alongside, one], delta)


@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "steps"),
    [
        (1.0, 1e-5, 0.01, 10_000),
        (8.0, 1e-9, 0.05, 1_000_000),
        (0.1, 1e-6, 1e-3, 100),
        (3.0, 1e-6, 1.0, 50),
        (2, 1e-5, 0.5, 1),
    ],
)
@pytest.mark.parametrize("adjacency", [ADD, "REPLACE_ONE"])
def test_the_noise_keeps_the_target_and_hardly_more(epsilon, delta, rate, steps, adjacency):
    noise = calibrate_noise(epsilon, delta, rate, steps, adjacency)
    assert 0.99 * epsilon <= spent(rate, noise, steps, delta, adjacency) <= epsilon


@pytest.mark.parametrize(
    ("epsilon", "noise", "steps"), [(1.0, 1.0, 1000), (8.0, 5.0, 100_000), (0.5, 1.0, 1), (3.0, 0.7, 20)]
)
def test_the_rate_keeps_the_target_and_hardly_less(epsilon, noise, steps):
    rate = calibrate_sample_rate(epsilon, 1e-6, noise, steps, ADD)
    assert 0.99 * epsilon <= spent(rate, noise, steps, 1e-6) <= epsilon


@pytest.mark.parametrize(
    ("epsilon", "rate", "noise"), [(3.0, 0.01, 1.0), (8.0, 0.05, 0.5), (1.0, 1e-3, 1.0), (5.0, 1.0, 10.0)]
)
def test_one_more_step_than_these_is_too_many_or_nothing_is_left(epsilon, rate, noise):
    steps = calibrate_steps(epsilon, 1e-5, rate, noise, ADD)
    assert type(steps) is int
    kept = spent(rate, noise, steps)
    assert kept <= epsilon
    assert kept >= 0.99 * epsilon or spent(rate, noise, steps + 1) > epsilon


def test_there_and_back():
    epsilon = spent(0.01, 1.3, 2000)
    assert calibrate_noise(epsilon, 1e-5, 0.01, 2000, ADD) == pytest.approx(1.3, rel=0.01)
    assert calibrate_sample_rate(epsilon, 1e-5, 1.3, 2000, ADD) == pytest.approx(0.01, rel=0.02)
    assert calibrate_steps(epsilon, 1e-5, 0.01, 1.3, ADD) == pytest.approx(2000, rel=0.03)


def test_what_ran_before_counts():
    before = PoissonGaussian(sample_rate=0.01, noise_multiplier=1.0, steps=500, adjacency=ADD)
    noise = calibrate_noise(3.0, 1e-5, 0.01, 1000, ADD, alongside=[before])
    assert 2.97 <= spent(0.01, noise, 1000, alongside=[before]) <= 3.0
    assert noise > calibrate_noise(3.0, 1e-5, 0.01, 1000, ADD)


def test_limits_are_returned_where_even_they_keep_the_target():
    assert calibrate_sample_rate(8.0, 1e-5, 50.0, 10, ADD) == 1.0
    assert calibrate_steps(50.0, 1e-5, 1e-5, 50.0, ADD) == 100_000_000


def test_a_target_that_cannot_be_kept_is_refused():
    before = PoissonGaussian(sample_rate=0.01, noise_multiplier=1.0, steps=5000, adjacency=ADD)
    with pytest.raises(UsageError, match="even"):
        calibrate_noise(1.0, 1e-5, 0.01, 10, ADD, alongside=[before])
    with pytest.raises(UsageError, match="1 steps"):
        calibrate_steps(0.1, 1e-5, 1.0, 1.0, ADD)


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (float("inf"), 1e-5), (1.0, 0.0), (1.0, 1.0)]
)
def test_targets_are_checked(epsilon, delta):
    with pytest.raises(UsageError, match="target"):
        Target(epsilon, delta)


def test_a_neighbour_that_is_none_is_refused():
    with pytest.raises(UsageError, match="adjacency"):
        calibrate_noise(1.0, 1e-5, 0.01, 10, "ADD")


def test_a_search_that_aims_too_high_is_not_believed(monkeypatch):
    """What comes back was checked by the accountant, whatever the search on coarse grids found."""
    monkeypatch.setattr(calibrate, "_MARGIN", -0.05)
    noise = calibrate_noise(1.0, 1e-5, 0.01, 10_000, ADD)
    assert 0.5 < spent(0.01, noise, 10_000) <= 1.0
