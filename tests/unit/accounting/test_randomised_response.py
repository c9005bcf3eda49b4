import math

import numpy as np
import pytest
from dp_accounting import RandomizedResponseDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.stats import multinomial

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.accountants.rdp import RDP
from sfumato.accounting.catalogue import mechanism
from sfumato.accounting.mechanisms.gaussian import Gaussian
from sfumato.accounting.mechanisms.randomised_response import RandomisedResponse
from sfumato.errors import NotApplicable, NotPrivateError, UsageError

REPLACE, ZERO = "REPLACE_ONE", "REPLACE_SPECIAL"


def response(epsilon=1.0, classes=10, steps=1, adjacency=REPLACE):
    return RandomisedResponse(label_epsilon=epsilon, classes=classes, steps=steps, adjacency=adjacency)


def by_dp_accounting(delta, *ones):
    accountant = PLDAccountant(ones[0].adjacency.relation, value_discretization_interval=1e-3)
    for one in ones:
        accountant.compose(one.dp_event())
    return accountant.get_epsilon(delta)


def exact_epsilon(one, delta):
    """By listing how often each of the three losses occurs among all answers."""
    base = math.exp(one.label_epsilon)
    total, found = base + one.classes - 1, {}
    for up in range(one.steps + 1):
        for down in range(one.steps + 1 - up):
            p = multinomial.pmf(
                [up, down, one.steps - up - down], one.steps, [base / total, 1 / total, (one.classes - 2) / total]
            )
            found[up - down] = found.get(up - down, 0.0) + p
    losses = np.array(list(found)) * one.label_epsilon
    masses = np.array(list(found.values()))

    def delta_at(epsilon):
        return float(np.sum(masses * np.maximum(-np.expm1(epsilon - losses), 0)))

    low, high = 0.0, one.steps * one.label_epsilon
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_at(middle) <= delta else (middle, high)
    return high


@pytest.mark.parametrize(("epsilon", "classes"), [(1.0, 2), (1.0, 10), (0.01, 100), (20.0, 3)])
def test_the_label_is_answered_e_to_the_epsilon_times_as_often_as_another_one(epsilon, classes):
    truth = response(epsilon, classes).truth
    own, other = truth + (1 - truth) / classes, (1 - truth) / classes
    assert math.log(own / other) == pytest.approx(epsilon)
    assert own + (classes - 1) * other == pytest.approx(1)


@pytest.mark.parametrize("delta", [1e-8, 1e-5, 0.01])
@pytest.mark.parametrize("one", [response(), response(3.0, 2), response(0.5, 4, 6), response(0.1, 100, 50)], ids=str)
def test_epsilon_is_that_of_all_answers_listed_and_never_below(one, delta):
    exact = exact_epsilon(one, delta)
    assert exact * (1 - 1e-12) <= PLD().epsilon([one], delta) <= exact * 1.01 + 1e-4


@pytest.mark.parametrize("adjacency", [REPLACE, ZERO])
@pytest.mark.parametrize("delta", [1e-5, 0.01])
@pytest.mark.parametrize(("epsilon", "classes", "steps"), [(1.0, 10, 1), (3.0, 10, 4), (0.2, 5, 8)])
def test_known_answers_of_dp_accounting_alone_and_beside_a_gaussian(adjacency, delta, epsilon, classes, steps):
    one = response(epsilon, classes, steps, adjacency)
    other = Gaussian(noise_multiplier=2.0, steps=1, adjacency=adjacency)
    for together in ([one], [one, other]):
        assert PLD().epsilon(together, delta) == pytest.approx(by_dp_accounting(delta, *together), rel=2e-3, abs=5e-3)


def test_its_event_is_the_one_of_dp_accounting_with_the_probability_to_draw():
    one = response(2.0, 4, 3)
    assert one.dp_event().events == [RandomizedResponseDpEvent(1 - one.truth, 4)] * 3


def test_no_delta_is_needed():
    assert PLD().epsilon([response(1.5)], 1e-300) == pytest.approx(1.5, abs=1e-4)


def test_the_unit_without_a_label_answers_like_all_labels_together():
    k, e = 10, math.e
    assert PLD().epsilon([response(adjacency=ZERO)], 1e-12) == pytest.approx(
        max(math.log(e * k / (e + k - 1)), math.log((e + k - 1) / k)), abs=1e-4
    )


def test_it_comes_back_from_its_plain_form_and_says_what_it_is():
    one = response(0.5, 7)
    assert mechanism(one.plain() | {"delta": 1e-5}) == one
    assert one.described == "randomised response over 7 labels at epsilon 0.5"
    assert "3 answers" in one.lasting(3).described


@pytest.mark.parametrize(
    "change", [{"label_epsilon": 0.0}, {"label_epsilon": math.inf}, {"classes": 1}, {"classes": 2.5}, {"steps": -1}]
)
def test_numbers_that_cannot_be_are_refused(change):
    with pytest.raises(UsageError, match=next(iter(change))):
        mechanism(response().plain() | change)


def test_what_is_not_covered_is_refused_with_the_reason():
    with pytest.raises(NotPrivateError, match="number of units"):
        response(adjacency="ADD_OR_REMOVE_ONE")
    with pytest.raises(NotApplicable, match=REPLACE):
        RDP().epsilon([response()], 1e-5)
