import gzip
import struct

import numpy as np
import pytest

from sfumato.data.formats.idx import parse_idx, read_idx
from sfumato.errors import DataError


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress])
def test_what_was_written_is_read(tmp_path, pack):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "images"
    path.write_bytes(pack(idx(array)))
    assert (read_idx(path) == array).all()


@pytest.mark.parametrize("start", [b"", b"\0\0", b"\x89PNG", b"\0\0\x0d\x01", b"\0\0\x08\0", b"\0\0\x08\x09"])
def test_another_kind_of_file_is_named(start):
    with pytest.raises(DataError, match=r"Expected an IDX file of bytes .* at 'images'"):
        parse_idx(start, where="images")


def test_cut_off_and_overlong_files_are_refused():
    data = idx(np.zeros((2, 3), dtype=np.uint8))
    for bad in (data[:-1], data + b"\0", data[:6]):
        with pytest.raises(DataError, match=r"in 'labels', got .* cut off or damaged"):
            parse_idx(bad, where="labels")


def test_a_header_that_declares_terabytes_takes_no_memory():
    with pytest.raises(DataError, match=r"4294967295 x 4294967295 values"):
        parse_idx(b"\0\0\x08\x02" + b"\xff" * 8, where="bomb")
