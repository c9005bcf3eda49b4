"""What every accountant promises, found by discovery."""

import math

import pytest

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.catalogue import accountants, mechanisms
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import NotApplicable, UsageError

every_accountant = pytest.mark.parametrize(
    "accountant", [kind() for kind in accountants().values()], ids=lambda a: a.name
)
ADD, REPLACE = "ADD_OR_REMOVE_ONE", "REPLACE_ONE"


def poisson(steps=500, noise=1.0, rate=0.01, adjacency=ADD):
    return PoissonGaussian(sample_rate=rate, noise_multiplier=noise, steps=steps, adjacency=adjacency)


def test_there_are_three():
    assert list(accountants()) == ["pld", "rdp", "rdp_classic"]


@every_accountant
def test_it_has_words_and_is_its_own_configuration(accountant):
    assert accountant.words
    assert accountant == type(accountant)()


@every_accountant
def test_nothing_that_ran_costs_nothing(accountant):
    assert accountant.epsilon([], 1e-5) == 0
    assert accountant.epsilon([poisson(steps=0)], 1e-5) == 0


@every_accountant
def test_without_noise_nothing_is_bounded(accountant):
    assert accountant.epsilon([poisson(noise=0.0)], 1e-5) == math.inf
    assert accountant.epsilon([poisson(), poisson(noise=0.0)], 1e-5) == math.inf


@every_accountant
@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_a_probability_between_0_and_1(accountant, delta):
    with pytest.raises(UsageError, match="delta"):
        accountant.epsilon([poisson()], delta)


@every_accountant
def test_relations_are_not_mixed(accountant):
    one, other = (Gaussian(noise_multiplier=1.0, steps=1, adjacency=relation) for relation in (ADD, REPLACE))
    with pytest.raises(UsageError, match="one neighbouring relation"):
        accountant.epsilon([one, other], 1e-5)


@every_accountant
def test_more_noise_fewer_steps_a_lower_rate_and_a_larger_delta_cost_less(accountant):
    cost = accountant.epsilon([poisson()], 1e-5)
    for cheaper in (poisson(noise=1.2), poisson(steps=400), poisson(rate=0.008)):
        assert accountant.epsilon([cheaper], 1e-5) < cost
    assert accountant.epsilon([poisson()], 1e-4) < cost < accountant.epsilon([poisson(), poisson(steps=10)], 1e-5)


@every_accountant
def test_nobody_is_below_the_tight_one(accountant):
    for one in (poisson(), poisson(steps=50_000), poisson(rate=0.3, noise=4.0), poisson(rate=1.0, noise=20.0)):
        assert accountant.epsilon([one], 1e-5) >= PLD().epsilon([one], 1e-5) * 0.9999


@every_accountant
@pytest.mark.parametrize("kind", mechanisms().values(), ids=lambda k: k.name)
def test_each_mechanism_is_covered_or_refused_with_a_reason(accountant, kind):
    facts = {"noise_multiplier": 1.0, "steps": 10, "sample_rate": 0.01, "units": 1000, "max_batch_size": 20}
    facts |= {"label_epsilon": 0.5, "classes": 10}
    for relation in kind.adjacencies:
        one = kind.from_plain(facts | {"kind": kind.name, "adjacency": relation})
        if accountant.why_not(one) is None:
            assert 0 < accountant.epsilon([one], 1e-5) < math.inf
        else:
            assert relation in accountant.why_not(one)
            with pytest.raises(NotApplicable):
                accountant.epsilon([one], 1e-5)


def test_the_default_covers_everything():
    for kind in mechanisms().values():
        facts = {"noise_multiplier": 1.0, "steps": 1, "sample_rate": 0.1, "units": 10, "max_batch_size": 2}
        facts |= {"label_epsilon": 0.5, "classes": 10}
        for relation in kind.adjacencies:
            assert PLD().why_not(kind.from_plain(facts | {"kind": kind.name, "adjacency": relation})) is None
