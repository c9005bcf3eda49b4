from dataclasses import replace

import numpy as np
import pytest

from sfumato.data.owners import PLANTED, TRUE_CLASS, planted_rows, true_labels, with_owners
from sfumato.data.population import Population, Unit
from sfumato.errors import DataError, UsageError


def people(n=430, classes=4, **more):
    labels = np.arange(n) % classes
    return Population(np.arange(n, dtype=np.float32)[:, None], Unit("example"), labels=labels, **more)


def test_every_owner_has_as_many_records_of_mixed_classes():
    before = people()
    after = with_owners(before, 20, 1, seed=3)
    assert (len(after), after.unit.name, after.units) == (420, "owner", 21)
    assert np.bincount(after.unit_of).tolist() == [20] * 21
    assert len(np.unique(after.id_array)) == 420
    mixed = [len(np.unique(true_labels(after)[after.unit_of == owner])) for owner in range(21)]
    assert min(mixed) >= 3
    assert after.notes == (
        "21 made-up owners have 20 records each, 1 of them with a planted wrong label. 10 records were left over and "
        "are not used.",
    )
    rows = after.id_array.astype(int)
    assert np.array_equal(after.tensor(np.arange(420)).numpy()[:, 0], rows)  # records, ids and labels stay together
    assert np.array_equal(true_labels(after), before.label_array[rows])


def test_each_owner_has_its_planted_wrong_labels_and_no_other_label_changes():
    after = with_owners(people(), 20, 3, seed=0)
    planted = planted_rows(after)
    assert np.bincount(after.unit_of[planted]).tolist() == [3] * 21
    wrong = after.label_array != true_labels(after)
    assert np.array_equal(np.flatnonzero(wrong), planted)
    assert set(after.groups[PLANTED]) == {"", "planted"}
    assert set(after.groups[TRUE_CLASS]) == {"0", "1", "2", "3"}


def test_planted_labels_are_uniform_over_the_other_classes():
    after = with_owners(people(12_000, 4), 10, 10, seed=1)
    shift = (after.label_array - true_labels(after)) % 4
    counts = np.bincount(shift, minlength=4)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 4000).max() < 300  # six standard deviations of Binomial(12000, 1/3)


def test_it_depends_on_the_seed_alone():
    one, two, other = (with_owners(people(), 20, 1, seed) for seed in (5, 5, 6))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert np.array_equal(planted_rows(one), planted_rows(two))


def test_nothing_planted_and_nobody_dealt():
    after = with_owners(people(), 20, 0)
    assert planted_rows(after).size == 0
    assert np.array_equal(after.label_array, true_labels(after))
    assert "planted" not in after.notes[0]
    assert planted_rows(people()).size == 0
    assert true_labels(people()).tolist() == people().label_array.tolist()


def test_owners_come_and_go_whole():
    after = with_owners(people(), 20, 1)
    with pytest.raises(DataError, match="whole units"):
        after.take(np.arange(5))
    half = after.take_units(np.arange(4))
    assert len(half) == 80
    assert len(planted_rows(half)) == 4


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="`owners`"):
        with_owners(people(), 0)
    with pytest.raises(UsageError, match="at most 5 planted labels"):
        with_owners(people(), 5, 6)
    with pytest.raises(UsageError, match="got the unit 'patient'"):
        with_owners(replace(people(), unit=Unit("patient", np.arange(430) // 2)))
    with pytest.raises(UsageError, match="group 'planted' before"):
        with_owners(people(groups={PLANTED: np.full(430, "")}))
    with pytest.raises(DataError, match="at least two owners of 300"):
        with_owners(people(), 300)
