import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from sfumato.data.formats.npz import array_names, read_array, read_arrays
from sfumato.errors import DataError


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.array(["a", "bc"]),
        np.arange(4, dtype=">i4"),
        np.array(5),
        np.zeros((0, 3)),
    ],
)
def test_what_was_saved_is_read(tmp_path, array):
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "d.npz", x=array)
        read = read_array(tmp_path / "d.npz", "x")
        assert read.dtype == array.dtype
        assert np.array_equal(read, array)
        assert read.shape == array.shape


def test_names(tmp_path):
    path = save(tmp_path / "d.npz", b=np.zeros(1), a=np.ones(1))
    assert array_names(path) == ("a", "b")
    assert read_arrays(path, ["a"])["a"].tolist() == [1]


def test_a_pickle_is_never_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = save(tmp_path / "d.npz", x=np.array([Evil()], dtype=object))
    with pytest.raises(DataError, match=r"d.npz, array `x`, got Python objects \(a pickle"):
        read_array(path, "x")
    assert not (tmp_path / "ran").exists()


def test_other_files_are_named(tmp_path):
    path = tmp_path / "d.npz"
    np.save(tmp_path / "d.npy", np.zeros(3))
    (tmp_path / "d.npy").rename(path)
    with pytest.raises(DataError, match=r"got a single .npy array"):
        array_names(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match=r"starts with '80 04.*pickles are never read"):
        array_names(path)


def test_a_header_that_declares_terabytes_takes_no_memory(tmp_path):
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue())
    with pytest.raises(DataError, match=r"8796093022208 bytes declared"):
        read_array(tmp_path / "d.npz", "x")


def test_more_than_the_limit_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"with a limit of 79"):
        read_array(save(tmp_path / "d.npz", x=np.zeros(10)), "x", limit=79)


def test_cut_off_and_damaged_files_are_named(tmp_path):
    path = save(tmp_path / "d.npz", x=np.arange(1000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"whole .npz archive"):
        array_names(path)
    path.write_bytes(whole[:300] + b"\xff" * 40 + whole[340:])
    with pytest.raises(DataError, match=r"whole array in d.npz, array `x`"):
        read_array(path, "x")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"not an array")
    with pytest.raises(DataError, match=r"whole array"):
        read_array(path, "x")
