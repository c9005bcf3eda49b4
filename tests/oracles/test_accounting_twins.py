"""The PLD accountant against dp-accounting's own, whose numbers on its finest grid are stored by `pld_reference.py`."""

import json
from pathlib import Path

import pytest
from dp_accounting.pld import PLDAccountant

from sfumato.accounting.accountants.pld import PLD
from sfumato.accounting.catalogue import mechanism
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.accounting.mechanisms.truncated_poisson_gaussian import TruncatedPoissonGaussian

REFERENCE = json.loads(Path(__file__).with_name("pld_reference.json").read_text())


def test_the_stored_grid_is_wide():
    assert len(REFERENCE) > 150
    assert {row["adjacency"] for row in REFERENCE} == {"ADD_OR_REMOVE_ONE", "REPLACE_ONE"}
    assert (min(r["sample_rate"] for r in REFERENCE), max(r["sample_rate"] for r in REFERENCE)) == (1e-6, 1.0)
    assert max(r["steps"] for r in REFERENCE) == 1_000_000


def check(rows):
    for row in rows:
        found, exact = PLD().epsilon([mechanism(row)], row["delta"]), row["epsilon"]
        assert exact <= found <= 1.01 * exact, row


def test_never_below_dp_accounting_and_at_most_a_hundredth_above():
    check(REFERENCE[::7])


@pytest.mark.slow
def test_nowhere_on_the_grid():
    check(REFERENCE)


def test_the_stored_numbers_are_what_dp_accounting_says():
    row = next(r for r in REFERENCE if r["noise_multiplier"] == 100 and r["steps"] == 1000 and r["sample_rate"] == 0.3)
    one = mechanism(row)
    accountant = PLDAccountant(one.adjacency.relation, value_discretization_interval=1e-5).compose(one.dp_event())
    assert accountant.get_epsilon(row["delta"]) == pytest.approx(row["epsilon"], rel=1e-9)


@pytest.mark.parametrize("adjacency", ["REPLACE_ONE", "REPLACE_SPECIAL"])
@pytest.mark.parametrize(("rate", "largest"), [(0.05, 55), (0.05, 200), (0.5, 400)])
def test_truncated_sampling(adjacency, rate, largest):
    one = TruncatedPoissonGaussian(
        sample_rate=rate, noise_multiplier=2.0, steps=60, units=1000, max_batch_size=largest, adjacency=adjacency
    )
    exact = PLDAccountant(one.adjacency.relation, 1e-3).compose(one.dp_event()).get_epsilon(1e-5)
    assert 0.999 * exact <= PLD().epsilon([one], 1e-5) <= 1.003 * exact


def test_two_mechanisms_together():
    ones = [
        PoissonGaussian(sample_rate=r, noise_multiplier=s, steps=t, adjacency="ADD_OR_REMOVE_ONE")
        for r, s, t in ((0.01, 1.0, 300), (0.1, 4.0, 50))
    ]
    accountant = PLDAccountant(ones[0].adjacency.relation, 1e-3)
    for one in ones:
        accountant.compose(one.dp_event())
    assert PLD().epsilon(ones, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=2e-3)
