import numpy as np
import pytest

from sfumato.data import ArrayRecords, Population, Unit
from sfumato.data.population import Picked
from sfumato.errors import DataError, UsageError


def patients(n=12, per=3, **more) -> Population:
    x = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    unit = np.array([f"p{i // per}" for i in range(n)])
    return Population(ArrayRecords(x), Unit("patient", unit), labels=np.arange(n) % 2, **more)


def test_units_are_numbered_in_order_of_first_appearance():
    population = Population(ArrayRecords(np.zeros((4, 1))), Unit("who", np.array(["z", "a", "z", "m"])))
    assert population.unit_names.tolist() == ["z", "a", "m"]
    assert population.unit_of.tolist() == [0, 1, 0, 2]
    assert population.units == 3


def test_a_plain_word_makes_every_record_a_unit():
    population = Population(np.zeros((3, 1)), "example")  # type: ignore[arg-type]
    assert population.units == 3
    assert population.ids is not None
    assert population.ids.tolist() == ["0", "1", "2"]


def test_the_unit_of_privacy_has_no_empty_name_and_no_missing_owner():
    with pytest.raises(UsageError, match="unit of privacy"):
        Unit("")
    with pytest.raises(DataError, match="none for record 1"):
        Unit("patient", np.array([1.0, np.nan, np.nan]))
    with pytest.raises(DataError, match="none for record 2"):
        Unit("patient", np.array(["a", "b", None], dtype=object))


@pytest.mark.parametrize("seed", range(5))
def test_splits_never_cut_a_unit_and_never_share_one(seed):
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 40, 200).astype(str)
    population = Population(ArrayRecords(rng.normal(size=(200, 2))), Unit("patient", unit))
    parts = population.split({"train": 0.5, "val": 0.2, "test": 0.3}, rng)
    owners = {name: set(part.unit_names) for name, part in parts.items()}
    assert not owners["train"] & owners["val"] | owners["train"] & owners["test"] | owners["val"] & owners["test"]
    assert sum(map(len, parts.values())) == 200
    for part in parts.values():
        for who in part.unit_names:
            assert (part.unit.of == who).sum() == (unit == who).sum()


def test_a_split_refuses_too_much_and_empty_parts():
    with pytest.raises(UsageError, match="at most 1"):
        patients().split({"a": 0.8, "b": 0.3}, np.random.default_rng(0))
    with pytest.raises(UsageError, match="from 0"):
        patients().split({"a": 0.8, "b": -0.3}, np.random.default_rng(0))
    with pytest.raises(DataError, match="none of 4 for 'b'"):
        patients().split({"a": 0.8, "b": 0.01}, np.random.default_rng(0))


def test_take_refuses_half_a_unit_and_keeps_everything_of_whole_ones():
    population = patients(groups={"sex": np.array(list("mf" * 6))}, ids=np.array(list("abcdefghijkl")))
    with pytest.raises(DataError, match=r"whole units \(patient\), got 2 of the 3"):
        population.take(np.array([0, 1]))
    part = population.take(np.array([3, 4, 5]))
    assert part.id_array.tolist() == ["d", "e", "f"]
    assert part.groups["sex"].tolist() == ["f", "m", "f"]
    assert part.label_array.tolist() == [1, 0, 1]
    assert part.tensor(np.array([0])).tolist() == [[6.0, 7.0]]
    assert population.take(np.arange(12) < 3).unit_names.tolist() == ["p0"]


def test_rows_of_gives_all_records_of_a_unit():
    population = patients()
    assert np.flatnonzero(population.rows_of(np.array([False, True, False, True]))).tolist() == [3, 4, 5, 9, 10, 11]


def test_a_sample_takes_whole_units_until_enough():
    sample = patients().sample(4, np.random.default_rng(0))
    assert len(sample) == 6
    assert sample.units == 2
    assert patients().sample(99, np.random.default_rng(0)).units == 4
    with pytest.raises(UsageError, match="`records`"):
        patients().sample(0, np.random.default_rng(0))


def test_a_part_with_one_class_keeps_the_class_list():
    population = Population(ArrayRecords(np.zeros((4, 1))), Unit("example"), labels=np.array([0, 0, 1, 1]))
    part = population.take_units(np.array([0, 1]))
    assert part.classes == 2
    assert part.label_array.tolist() == [0, 0]


def test_bad_labels_are_refused():
    def build(labels, names=()):
        return Population(ArrayRecords(np.zeros((2, 1))), Unit("example"), labels=np.array(labels), class_names=names)

    with pytest.raises(DataError, match="at least two classes"):
        build([1, 1])
    with pytest.raises(DataError, match="whole numbers from 0"):
        build([0.5, 1.0])
    with pytest.raises(DataError, match="whole numbers from 0"):
        build([-1, 1])
    with pytest.raises(DataError, match="labels below 2"):
        build([0, 2], ("a", "b"))
    with pytest.raises(DataError, match="`labels` for each of 2"):
        build([0, 1, 0])


def test_duplicate_ids_are_refused_by_name():
    with pytest.raises(DataError, match="'b' 2 times"):
        Population(ArrayRecords(np.zeros((3, 1))), Unit("example"), ids=np.array(["a", "b", "b"]))


def test_a_group_of_another_length_is_refused():
    with pytest.raises(DataError, match="`sex` for each of 3"):
        Population(ArrayRecords(np.zeros((3, 1))), Unit("example"), groups={"sex": np.array(["f"])})


def test_labels_are_needed_where_they_are_asked_for():
    with pytest.raises(UsageError, match="without them"):
        _ = Population(ArrayRecords(np.zeros((3, 1))), Unit("example")).label_array


def test_the_fingerprint_sees_records_labels_ids_and_units():
    x, unit = np.zeros((4, 1)), np.array(list("aabb"))

    def mark(x=x, unit=unit, labels=(0, 1, 0, 1), ids=(1, 2, 3, 4), name="who"):
        return Population(ArrayRecords(x), Unit(name, unit), labels=np.array(labels), ids=np.array(ids)).fingerprint

    marks = [
        mark(),
        mark(x=x + 1),
        mark(unit=np.array(list("abbb"))),
        mark(labels=(1, 1, 0, 1)),
        mark(ids=(1, 2, 3, 5)),
    ]
    assert len({*marks, mark(name="patient")}) == 6
    assert mark() == mark()


def test_parts_of_records_that_are_not_an_array_are_picked_without_a_copy():
    picked = Picked(ArrayRecords(np.arange(6.0)[:, None]), np.array([5, 3]))
    assert len(picked) == 2
    assert picked.shape == (1,)
    assert picked.take(np.array([1, 0])).ravel().tolist() == [3.0, 5.0]
    assert picked.fingerprint != Picked(picked.source, np.array([3, 5])).fingerprint
    part = Population(picked, Unit("example")).take_units(np.array([1]))
    assert part.tensor(np.array([0])).tolist() == [[3.0]]
