from dataclasses import replace

import numpy as np
import pytest

from sfumato.accounting.history import Event
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.settings import AuditSettings
from sfumato.data import ArrayRecords, Population, Unit
from sfumato.data.canaries import KINDS, counts_from, twins, with_canaries
from sfumato.data.canary_kinds.isolated import corner_pixels
from sfumato.data.canary_kinds.pictures import shows_digits
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
    assert {kind: int((firsts == kind).sum()) for kind in ALL} == ALL
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
    cubes = Population(np.zeros((3, 2, 2)), Unit("example"), labels=[0, 1, 0])
    for kind in ("isolated", "out-of-distribution", "blank"):
        with pytest.raises(UsageError, match="rows or images"):
            with_canaries(cubes, {kind: 1}, 0)


def test_numbers_from_text():
    assert counts_from("natural=250, mislabelled=10") == {"natural": 250, "mislabelled": 10}
    for wrong in ("natural", "natural=", "natural=x", "natural=1,natural=2", "", "wild=1"):
        with pytest.raises(UsageError):
            counts_from(wrong)
    assert counts_from("out-of-distribution=3,near-duplicate=2") == {"out-of-distribution": 3, "near-duplicate": 2}


def test_together_they_add_up_and_the_rest_stays():
    before, kinds = table(n=60), dict.fromkeys(KINDS, 5)
    marked = with_canaries(before, kinds, seed=3)
    counted = {kind: len(np.unique(marked.unit_of[marked.groups["canary"] == kind])) for kind in KINDS}
    assert counted == kinds
    assert (marked.units, len(marked)) == (65, 70)
    plain = np.flatnonzero(np.isin(marked.groups["canary"][:60], ["none", "natural"]))
    assert np.array_equal(everything(marked)[plain, :4], everything(before)[plain])
    assert np.array_equal(marked.label_array[plain], before.label_array[plain])
    assert np.array_equal(marked.id_array[:60], before.id_array)
    assert len(set(marked.id_array)) == 70


def test_a_near_copy_is_a_unit_of_its_own_with_another_label_beside_its_twin():
    before = table()
    marked = with_canaries(before, {"near-duplicate": 6, "mislabelled": 4}, seed=2)
    assert (len(marked), marked.units) == (46, 46)
    copies = np.flatnonzero(marked.groups["canary"] == "near-duplicate")
    assert np.array_equal(copies, np.arange(40, 46))
    originals = twins(marked)
    assert len(originals) == 6
    assert set(marked.groups["canary"][originals]) == {"none"}
    assert [f"{name} near copy" for name in marked.id_array[originals]] == list(marked.id_array[copies])
    assert np.array_equal(marked.label_array[originals], before.label_array[originals])
    assert (marked.label_array[copies] != before.label_array[originals]).all()
    x = everything(marked)
    gap = (x[copies] - x[originals]) / x[:40].std(axis=0)
    assert (gap != 0).all()
    assert np.abs(gap).max() < 5 * 0.05
    assert x.min() >= everything(before).min()
    assert len(twins(table())) == len(twins(with_canaries(table(), {"natural": 2}, 0))) == 0


def test_near_copies_of_a_unit_with_several_records_are_one_unit():
    marked = with_canaries(table(unit=Unit("patient", np.repeat(np.arange(10), 4))), {"near-duplicate": 3}, seed=1)
    assert (marked.units, len(marked)) == (13, 52)
    assert np.array_equal(np.unique(marked.unit_of[40:], return_counts=True)[1], [4, 4, 4])
    assert marked.unit_names[-1].endswith(" near copy")
    assert np.array_equal(np.repeat(twins(marked), 4), np.flatnonzero(np.isin(marked.unit_of, twins(marked))) // 4)


def test_the_twin_of_a_near_copy_is_in_every_training_set_and_never_public():
    marked = with_canaries(table(), {"near-duplicate": 8}, seed=1)
    attack = LossThreshold()
    for seed in range(5):
        settings = AuditSettings(attacks=(attack,), design="canaries", models=4, public=0.5, seed=seed)
        membership = settings.membership(marked)
        assert membership.matrix[:, twins(marked)].all()
        assert np.array_equal(np.flatnonzero(membership.in_game), np.arange(40, 48))
        assert np.array_equal(membership.matrix[:, 40:].sum(axis=0), [2] * 8)
        assert membership.public.sum() == 24


def test_rows_out_of_distribution_keep_each_column_and_lose_what_binds_them():
    x = np.random.default_rng(0).normal(size=(400, 1)) * np.ones((1, 3))
    before = Population(x, Unit("example"), labels=np.arange(400) % 2)
    marked = with_canaries(before, {"out-of-distribution": 200}, seed=0)
    strange = everything(marked)[marked.groups["canary"] == "out-of-distribution"]
    assert np.isin(strange, x.astype(np.float32)).all()
    assert np.abs(np.corrcoef(strange.T)[np.triu_indices(3, 1)]).max() < 0.3
    assert np.abs(strange.mean(axis=0)).max() < 5 / np.sqrt(200)
    labels = marked.label_array[marked.groups["canary"] == "out-of-distribution"]
    assert abs(labels.mean() - 0.5) < 0.18  # five standard deviations
    assert "each column from another record" in marked.notes[-1]


@pytest.mark.parametrize(("name", "source"), [("fashion-mnist", "load_digits"), ("digits", "load_sample_images")])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 16)])
def test_pictures_out_of_distribution_come_from_another_set(name, source, shape):
    before = Population(np.zeros((30, *shape), np.uint8), Unit("example"), labels=np.arange(30) % 5, name=name)
    marked = with_canaries(replace(before, kind="image"), {"out-of-distribution": 20}, seed=0)
    strange = everything(marked)[marked.groups["canary"] == "out-of-distribution"]
    assert strange.shape == (20, *shape)
    assert 0 <= strange.min() < 0.2
    assert 0.5 < strange.max() <= 1
    assert len({picture.tobytes() for picture in strange}) == 20
    assert source in marked.notes[-1]
    assert (everything(marked)[marked.groups["canary"] == "none"] == 0).all()
    assert len(set(marked.label_array[marked.groups["canary"] == "out-of-distribution"])) > 2


def test_only_so_many_digits_come_along():
    many = Population(np.zeros((1800, 1, 8, 8), np.uint8), Unit("example"), labels=np.arange(1800) % 5)
    with pytest.raises(UsageError, match="1797"):
        with_canaries(many, {"out-of-distribution": 1798}, seed=0)
    assert [shows_digits(name) for name in ("MNIST.zip", "svhn", "fashion-mnist", "cifar10")] == [
        True,
        True,
        False,
        False,
    ]


def test_blank_images_have_one_colour_and_blank_rows_one_level():
    marked = with_canaries(images(), {"blank": 8}, seed=0)
    blank = everything(marked)[marked.groups["canary"] == "blank"].reshape(8, 3, 64)
    assert (blank == blank[:, :, :1]).all()
    assert len(np.unique(blank[:, :, 0])) == 24
    before = table(n=200)
    rows = with_canaries(before, {"blank": 50}, seed=0)
    x = everything(before)
    levels = (everything(rows)[rows.groups["canary"] == "blank"] - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(levels, levels[:, :1] * np.ones((1, 4)), atol=1e-5)
    assert np.abs(levels).max() <= 2
    assert levels[:, 0].std() > 0.8
    assert len(set(rows.label_array[rows.groups["canary"] == "blank"])) == 3


@pytest.mark.parametrize("kind", ["out-of-distribution", "blank", "near-duplicate"])
def test_the_same_seed_makes_the_same_canaries_also_in_parts(kind):
    one, again, other = (with_canaries(table(), {kind: 4}, seed) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(everything(one), everything(again))
    rows = np.array([41 if kind == "near-duplicate" else 39, 3, 0])
    np.testing.assert_array_equal(one.tensor(rows).numpy(), everything(one)[rows])
    part = one.take(rows)
    np.testing.assert_array_equal(everything(part), everything(one)[rows])
