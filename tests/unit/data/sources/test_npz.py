import numpy as np
import pytest

from sfumato.data.sources.npz import NPZ
from sfumato.errors import DataError, UsageError

Y = np.array([0, 1, 1, 0])


@pytest.fixture
def save(tmp_path):
    def _save(**arrays) -> str:
        np.savez(tmp_path / "d.npz", **arrays)
        return str(tmp_path / "d.npz")

    return _save


def test_rows_labels_units_and_groups_by_name(save):
    path = save(z=np.eye(4), t=np.array(list("abba")), who=np.array(list("ppqr")), sex=np.array(list("fmfm")))
    population = NPZ(path, unit="who", x="z", y="t", groups="sex").load()
    assert population.unit_names.tolist() == ["p", "q", "r"]
    assert population.class_names == ("a", "b")
    assert population.groups["sex"].tolist() == list("fmfm")
    assert population.tensor(np.arange(4)).tolist() == np.eye(4).tolist()
    assert len(population.events) == 1
    assert NPZ(path, unit="who", x="z", y="t", classes=("b", "a")).load().label_array.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("shape", "layout", "record"),
    [
        ((4, 5, 6), "auto", (1, 5, 6)),
        ((4, 5, 6, 3), "auto", (3, 5, 6)),
        ((4, 3, 5, 6), "auto", (3, 5, 6)),
        ((4, 3, 6, 3), "NHWC", (3, 3, 6)),
        ((4, 3, 6, 3), "NCHW", (3, 6, 3)),
        ((4, 5, 6), "rows", (30,)),
        ((4,), "auto", (1,)),
    ],
)
def test_layouts_of_bytes(save, shape, layout, record):
    x = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    population = NPZ(save(x=x, y=Y), unit="example", layout=layout).load()
    assert population.records.shape == record
    axes = (0, 3, 1, 2) if record == (3, 5, 6) and shape[-1] == 3 else range(len(shape))
    expected = x.transpose(*axes).reshape(4, *record) if layout != "NHWC" else x.transpose(0, 3, 1, 2)
    assert np.allclose(population.tensor(np.arange(4)), expected / 255)


def test_axes_that_could_be_anything_are_refused(save):
    for x in (np.zeros((4, 3, 6, 3), np.uint8), np.zeros((4, 5, 6)), np.zeros((4, 5, 6, 7), np.uint8)):
        with pytest.raises(DataError, match=r"d.npz, array `x`.*`layout`"):
            NPZ(save(x=x, y=Y), unit="example").load()
    with pytest.raises(DataError, match=r"4 axes \(NHWC\)"):
        NPZ(save(x=np.zeros((4, 5, 6)), y=Y), unit="example", layout="NHWC").load()
    with pytest.raises(UsageError, match=r"`layout`"):
        NPZ("d.npz", unit="example", layout="HWC")


@pytest.mark.parametrize("names", [("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("X_{}", "Y_{}")])
def test_split_arrays_as_medmnist_and_others_write_them(save, names):
    arrays = {}
    for size, part in ((3, "train"), (2, "val"), (4, "test")):
        arrays[names[0].format(part)] = np.full((size, 5, 5), size, np.uint8)
        arrays[names[1].format(part)] = (np.arange(size) % 2)[:, None]
    path = save(**arrays)
    population = NPZ(path, unit="example").load()
    assert population.groups["part"].tolist() == ["train"] * 3 + ["val"] * 2 + ["test"] * 4
    assert population.records.shape == (1, 5, 5)
    assert len(NPZ(path, unit="example", part="val").load()) == 2
    assert NPZ(path, unit="example", part="val").load().groups == {}


def test_split_arrays_with_units(save):
    path = save(x_train=np.eye(4), y_train=Y, who_train=Y, x_test=np.eye(4), y_test=Y, test_who=Y + 1)
    assert NPZ(path, unit="who").load().unit_of.tolist() == [0, 1, 1, 0, 1, 2, 2, 1]
    with pytest.raises(DataError, match=r"'x_val' \(option `x`\)"):
        NPZ(path, unit="who", part="val").load()


def test_missing_arrays_are_named(save):
    with pytest.raises(DataError, match=r"column 'x' .*got 'features', 'y'|'x' \(option `x`\) in d.npz"):
        NPZ(save(features=np.eye(4), y=Y), unit="example").load()
    with pytest.raises(DataError, match=r"'who' \(option `array who`\)"):
        NPZ(save(x=np.eye(4), y=Y), unit="who").load()
    with pytest.raises(UsageError, match=r"Drop `part`"):
        NPZ(save(x=np.eye(4), y=Y), unit="example", part="train").load()
    with pytest.raises(UsageError, match=r"`unit`"):
        NPZ("d.npz", unit="")


def test_wrong_lengths_nan_and_bad_labels_are_named(save):
    with pytest.raises(DataError, match=r"4 entries in d.npz, array `y`, got shape \(3,\)"):
        NPZ(save(x=np.eye(4), y=Y[:3]), unit="example").load()
    with pytest.raises(DataError, match=r"in record 2"):
        NPZ(save(x=np.array([[0], [1], [np.nan], [2]]), y=Y), unit="example").load()
    for bad in (Y + 0.5, np.stack([Y, Y], 1), np.array(list("abcd"), dtype="S1")):
        with pytest.raises(DataError, match=r"one class per record in d.npz, array `y`"):
            NPZ(save(x=np.eye(4), y=bad), unit="example").load()
    with pytest.raises(DataError, match=r"two classes in d.npz, array `y`, got 1 only"):
        NPZ(save(x=np.eye(4), y=np.ones(4)), unit="example").load()
    with pytest.raises(DataError, match=r"Python objects"):
        NPZ(save(x=np.eye(4), y=np.array([{}, 1, 2, 3])), unit="example").load()


def test_labels_that_do_not_start_at_zero_get_a_fitted_list(save):
    population = NPZ(save(x=np.eye(4), y=np.array([10, 2, 2, 10])), unit="example").load()
    assert population.class_names == ("2", "10")
    assert population.label_array.tolist() == [1, 0, 0, 1]
    assert "class list" in population.events[0].purpose
    assert NPZ(save(x=np.eye(4), y=Y.astype(float)), unit="example").load().events == ()
