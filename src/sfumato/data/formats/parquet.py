"""Parquet tables, through the optional package pyarrow."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.data.formats.table import Column, Numbers, Table, Words
from sfumato.errors import DataError, UsageError


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "Expected the package pyarrow for Parquet files, got none installed.",
            remedy="Run `pip install sfumato[tables]`, or save the table as CSV.",
        ) from error
    return pyarrow


def parquet_columns(path: Path) -> list[str]:
    """The file's columns in order."""
    arrow = _pyarrow()
    return list(_guarded(path, lambda: arrow.parquet.read_schema(path).names))


def read_parquet(path: Path, *, words: Collection[str] = (), skip: Collection[str] = ()) -> Table:
    """Read a Parquet file.

    Args:
        path: the file.
        words: columns to read as words even where they hold numbers.
        skip: columns not to read.

    Raises:
        UsageError: if pyarrow is not installed.
        DataError: if the file is damaged or empty, or a column is neither numbers nor text.
    """
    arrow = _pyarrow()
    wanted = [name for name in parquet_columns(path) if name not in skip]
    table = _guarded(path, lambda: arrow.parquet.ParquetFile(path).read(columns=wanted))
    if table.num_rows == 0:
        raise DataError(f"Expected rows in {path.name}, got none.", remedy="Check the file.")
    columns = {name: _column(arrow, table.column(name), name, path.name, name in words) for name in wanted}
    return Table(columns, np.arange(1, table.num_rows + 1), path.name, counted_in="row")


def _guarded(path: Path, read: Any) -> Any:
    arrow = _pyarrow()
    try:
        return read()
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"Expected a whole Parquet file at {str(path)!r}, got: {str(error).splitlines()[0]}",
            remedy="Write or copy the file again.",
        ) from error


def _column(arrow: Any, column: Any, name: str, where: str, as_words: bool) -> Column:
    kind = column.type
    numeric = arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_decimal(kind)
    if (numeric or arrow.types.is_boolean(kind)) and not as_words:
        values = column.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return Numbers(np.asarray(values, dtype=np.float64))
    if arrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if arrow.types.is_nested(kind) or (arrow.types.is_temporal(kind) and not as_words):
        raise DataError(
            f"Expected numbers or text in {where}, column `{name}`, got {kind}.",
            remedy=f"Turn it into numbers first, or leave it out with `drop=({name!r},)`.",
        )
    return _words(arrow, column.cast(arrow.string()))


def _words(arrow: Any, column: Any) -> Words:
    coded = column.combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
    vocabulary = coded.dictionary.to_pylist()
    return Words.from_raw(np.where(codes == len(vocabulary), -1, codes), vocabulary, ("", "nan", "NaN"))
