import gzip

import pytest

from sfumato.data.formats.files import existing, existing_file, opened, read_bytes
from sfumato.errors import DataError


def test_a_near_miss_is_suggested(write):
    path = write("x", "patients.csv")
    with pytest.raises(DataError, match=r"Did you mean '.*patients.csv'"):
        existing(path.parent / "patient.csv", what="a table")
    with pytest.raises(DataError, match=r"Check the path"):
        existing(path.parent / "zzz" / "qqq", what="a table")
    assert existing(path, what="a table") == path


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match=r"got a folder"):
        existing_file(tmp_path, what="a table")


def test_gzip_is_seen_by_content_not_by_name(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_bytes(gzip.compress(b"hello"))
    assert read_bytes(path, limit=5) == b"hello"
    path.write_bytes(b"hello")
    assert read_bytes(path, limit=5) == b"hello"


def test_a_small_file_cannot_unpack_to_more_than_the_limit(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(DataError, match=r"at most 1000 bytes in .*bomb.gz"):
        read_bytes(path, limit=1000)


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:30] + b"\xff" * 10 + b[40:], lambda b: b[:5]])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "cut.gz"
    path.write_bytes(damage(gzip.compress(bytes(range(256)) * 100)))
    with pytest.raises(DataError, match=r"whole gzip file at '.*cut.gz'"):
        read_bytes(path, limit=1 << 20)


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"Expected to read"), opened(tmp_path / "absent", limit=9):
        pass
