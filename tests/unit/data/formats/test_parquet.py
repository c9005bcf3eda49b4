import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfumato.data.formats.parquet import parquet_columns, read_parquet
from sfumato.data.formats.table import Numbers
from sfumato.errors import DataError, UsageError


def save(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_numbers_words_and_missing_values(tmp_path):
    path = save(
        tmp_path / "t.parquet",
        age=pa.array([1, None, 3]),
        size=pa.array([0.5, float("nan"), 2.0]),
        yes=pa.array([True, False, None]),
        price=pa.array([Decimal("1.50"), Decimal("2.25"), None]),
        job=pa.array(["a", None, " a "]),
        town=pa.array(["x", "y", None]).dictionary_encode(),
    )
    table = read_parquet(path)
    columns = {name: c.values for name, c in table.columns.items() if isinstance(c, Numbers)}
    assert np.array_equal(columns["age"], [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(columns["size"], [0.5, np.nan, 2], equal_nan=True)
    assert np.array_equal(columns["yes"], [1, 0, np.nan], equal_nan=True)
    assert np.array_equal(columns["price"], [1.5, 2.25, np.nan], equal_nan=True)
    assert table.words("job").text().tolist() == ["a", "(missing)", "a"]
    assert table.words("town").text().tolist() == ["x", "y", "(missing)"]
    assert table.place(2, "age") == "t.parquet, row 3, column `age`"


def test_numbers_asked_for_as_words(tmp_path):
    path = save(tmp_path / "t.parquet", id=[2**60 + 1, 2**60 + 2], x=[1, 2])
    assert read_parquet(path, words=["id"]).words("id").vocabulary == (str(2**60 + 1), str(2**60 + 2))


def test_skipped_columns_are_not_read(tmp_path):
    path = save(tmp_path / "t.parquet", a=[1], b=[[1, 2]])
    assert parquet_columns(path) == ["a", "b"]
    assert list(read_parquet(path, skip=["b"]).columns) == ["a"]
    with pytest.raises(DataError, match=r"column `b`, got list.*drop=\('b',\)"):
        read_parquet(path)


def test_damaged_and_empty_files_are_named(tmp_path):
    path = save(tmp_path / "t.parquet", a=list(range(999)))
    whole = path.read_bytes()
    for bad in (b"", b"not parquet", whole[:-20]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"whole Parquet file at '.*t.parquet'"):
            parquet_columns(path)
    with pytest.raises(DataError, match=r"Expected rows in t.parquet"):
        read_parquet(save(tmp_path / "t.parquet", a=pa.array([], pa.int64())))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install sfumato\[tables\]"):
        parquet_columns(tmp_path / "t.parquet")
