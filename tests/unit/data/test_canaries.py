import numpy as np
import pytest

from sfumato.accounting.history import Event
from sfumato.data import ArrayRecords, Population, Unit
from sfumato.data.canaries import KINDS, corner_pixels, counts_from, with_canaries
from sfumato.errors import UsageError

ALL = {"natural": 3, "mislabelled": 4, "duplicated": 2, "isolated": 5}


def table(n=40, classes=3, unit: Unit | None = None, **more) -> Population:
    x = np.random.default_rng(1).normal(size=(n, 4)).astype(np.float32)
    return Population(ArrayRecords(x), unit or Unit("example"), labels=np.arange(n) % classes, **more)


def images(n=12, size=8) -> Population:
    pixels = np.random.default_rng(1).integers(1, 255, size=(n, 3, size, size)).astype(np.uint8)
    return Population(ArrayRecords(pixels), Unit("example"), labels=np.arange(n) % 2, kind="image")


def everything(population: Population) -> np.ndarray:
    return population.tensor(np.arange(len(population))).numpy()


def test_the_group_names_each_kind_as_often_as_asked():
    marked = with_canaries(table(), ALL, seed=0)
    assert marked.units == 40
    firsts = marked.groups["canary"][:40]
    assert {kind: int((firsts == kind).sum()) for kind in KINDS} == ALL
    assert int((firsts == "none").sum()) == 40 - sum(ALL.values())
    assert "3 natural, 4 mislabelled" in marked.notes[-1]


def test_all_but_the_canaries_stay_as_they_are():
    before, after = table(events=(Event("data", "read", 40),)), with_canaries(table(), ALL, seed=0)
    plain = np.flatnonzero(np.isin(after.groups["canary"][:40], ["none", "natural"]))
    assert np.array_equal(everything(after)[plain, :4], everything(before)[plain])
    assert np.array_equal(after.label_array[plain], before.label_array[plain])
    assert np.array_equal(after.id_array[:40], before.id_array)
    assert with_canaries(before, ALL, seed=0).events == before.events


def test_a_wrong_label_is_never_the_right_one_and_every_other_class_occurs():
    before = table(n=300)
    after = with_canaries(before, {"mislabelled": 300}, seed=0)
    shift = (after.label_array - before.label_array) % 3
    counts = np.bincount(shift, minlength=3)
    assert counts[0] == 0
    assert abs(counts[1] - 150) < 5 * np.sqrt(75)
    assert np.array_equal(everything(after), everything(before))


def test_a_copy_belongs_to_the_unit_and_goes_with_it():
    marked = with_canaries(table(), {"duplicated": 2}, seed=0)
    assert len(marked) == 42
    assert marked.units == 40
    twice = np.flatnonzero(np.bincount(marked.unit_of) == 2)
    assert np.array_equal(marked.unit_of[:40], np.arange(40))
    assert np.array_equal(np.sort(marked.unit_of[40:]), twice)
    assert np.array_equal(everything(marked)[40:], everything(marked)[marked.unit_of[40:]])
    assert np.array_equal(marked.label_array[40:], marked.label_array[marked.unit_of[40:]])
    assert marked.id_array[40] == f"{marked.id_array[marked.unit_of[40]]} copy"
    gone = np.ones(40, dtype=bool)
    gone[twice] = False
    assert len(marked.take(marked.rows_of(gone))) == 38


def test_an_isolated_column_of_a_table_is_zero_in_every_other_record():
    marked = with_canaries(table(), {"isolated": 3, "natural": 2}, seed=0)
    added = everything(marked)[:, 4:]
    assert added.shape == (40, 3)
    assert np.array_equal(added.sum(axis=0), [1, 1, 1])
    assert np.array_equal(added.sum(axis=1) > 0, marked.groups["canary"] == "isolated")


def test_an_isolated_pixel_of_an_image_is_black_in_every_other_record():
    before, marked = images(), with_canaries(images(), {"isolated": 3}, seed=0)
    assert marked.records.shape == (3, 8, 8)
    flat, old = everything(marked).reshape(12, 3, 64), everything(before).reshape(12, 3, 64)
    pixels = corner_pixels(8, 8, 3)
    assert set(pixels) == {0, 7, 56}
    assert np.array_equal(flat[:, :, pixels].sum(axis=0), np.ones((3, 3)))
    own = flat[:, 0, pixels].any(axis=1)
    assert np.array_equal(own, marked.groups["canary"] == "isolated")
    kept = np.setdiff1d(np.arange(64), pixels)
    assert np.array_equal(flat[:, :, kept], old[:, :, kept])


def test_whole_units_become_canaries():
    unit = Unit("patient", np.repeat([f"p{i}" for i in range(10)], 4))
    before = table(unit=unit)
    marked = with_canaries(before, {"mislabelled": 2, "isolated": 2, "duplicated": 1}, seed=5)
    assert marked.units == 10
    assert len(marked) == 44
    kinds = [set(marked.groups["canary"][marked.unit_of == u]) for u in range(10)]
    assert all(len(kind) == 1 for kind in kinds)
    wrong = marked.groups["canary"][:40] == "mislabelled"
    assert np.array_equal(marked.label_array[:40] != before.label_array, wrong)
    assert sorted(everything(marked)[:, 4:].sum(axis=0)) == [4, 4]
    part = marked.take_units(np.flatnonzero([kind == {"isolated"} for kind in kinds]))
    assert len(part) == 8


def test_the_fingerprint_follows_the_seed_and_the_kinds():
    def print_of(kinds, seed):
        return with_canaries(table(), kinds, seed).fingerprint

    assert print_of(ALL, 0) == print_of(dict(reversed(ALL.items())), 0)
    assert len({print_of(ALL, 0), print_of(ALL, 1), table().fingerprint, print_of({"isolated": 5}, 0)}) == 4
    assert (
        with_canaries(images(), {"isolated": 1}, 0).fingerprint
        != with_canaries(images(), {"isolated": 1}, 1).fingerprint
    )


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ({"mislabeled": 1}, "'mislabelled'"),
        ({"natural": -1}, "at least 0"),
        ({"natural": True}, "number of natural"),
        ({"natural": 41}, "40 canaries"),
        ({}, "between 1"),
    ],
)
def test_kinds_and_numbers_that_do_not_fit_are_refused(kinds, told):
    with pytest.raises(UsageError, match=told):
        with_canaries(table(), kinds, seed=0)


def test_other_reasons_to_refuse():
    with pytest.raises(UsageError, match="group 'canary'"):
        with_canaries(with_canaries(table(), {"natural": 1}, 0), {"natural": 1}, 0)
    with pytest.raises(UsageError, match="at most 16"):
        with_canaries(images(n=40), {"isolated": 17}, 0)
    with pytest.raises(UsageError, match="labels"):
        with_canaries(Population(np.zeros((3, 2)), Unit("example")), {"mislabelled": 1}, 0)
    with pytest.raises(UsageError, match="rows or images"):
        with_canaries(Population(np.zeros((3, 2, 2)), Unit("example")), {"isolated": 1}, 0)


def test_numbers_from_text():
    assert counts_from("natural=250, mislabelled=10") == {"natural": 250, "mislabelled": 10}
    for wrong in ("natural", "natural=", "natural=x", "natural=1,natural=2", "", "wild=1"):
        with pytest.raises(UsageError):
            counts_from(wrong)
