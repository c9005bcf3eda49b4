"""CSV and its relatives, plain or gzip, read in one pass over blocks of rows with the standard library and NumPy.

A column whose cells all parse as numbers is a column of numbers. One that does not is read as words in a second pass,
so that "01" and "1" stay apart wherever they stand.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfumato.data.formats.files import GIBIBYTE, opened
from sfumato.data.formats.table import MISSING_VALUES, Column, Numbers, Table, Words
from sfumato.errors import DataError, UsageError
from sfumato.types import Floats

ROWS_PER_BLOCK = 4096
MAX_BYTES = 16 * GIBIBYTE


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written.

    Args:
        delimiter: one character.
        header: whether the first line names the columns; otherwise they are c0, c1, ...
        encoding: of the text.
        missing_values: cells that mean "not known".
    """

    delimiter: str = ","
    header: bool = True
    encoding: str = "utf-8"
    missing_values: tuple[str, ...] = MISSING_VALUES

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise UsageError(
                f"Expected `delimiter` to be one character, got {self.delimiter!r}.",
                remedy="Usual ones are ',', ';' and a tab.",
            )


class _Block(NamedTuple):
    lines: list[int]
    rows: list[list[str]]


class _Codes(dict[str, int]):
    """Word -> position, growing as words come."""

    def __missing__(self, word: str) -> int:
        self[word] = len(self)
        return self[word]


@dataclass
class _NumberReader:
    """Collects a column as numbers until a cell is not one; then it has failed."""

    missing: frozenset[str]
    blocks: list[Floats] = field(default_factory=list)
    failed: bool = False

    def add(self, cells: Sequence[str]) -> None:
        if self.failed:
            return
        values = _numbers(cells, self.missing)
        self.failed = values is None
        if values is not None:
            self.blocks.append(values)

    def column(self) -> Numbers:
        return Numbers(np.concatenate(self.blocks))


@dataclass
class _WordReader:
    """Collects a column as words."""

    missing: frozenset[str]
    codes: _Codes = field(default_factory=_Codes)
    blocks: list[np.ndarray] = field(default_factory=list)

    def add(self, cells: Sequence[str]) -> None:
        self.blocks.append(np.fromiter(map(self.codes.__getitem__, cells), np.int64, len(cells)))

    def column(self) -> Words:
        return Words.from_raw(np.concatenate(self.blocks), self.codes, self.missing)


def column_names(path: Path, dialect: Dialect) -> list[str]:
    """The file's columns in order; those without a name in the header, and all of a headerless file, are c0, c1, ..."""
    first = next(_blocks(path, dialect, rows=1), None)
    if first is None:
        raise DataError(f"Expected rows in {path.name}, got an empty file.", remedy="Check the path.")
    cells = first.rows[0]
    names = [(cell.strip() if dialect.header else "") or f"c{i}" for i, cell in enumerate(cells)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"Expected distinct column names in {path.name}, line 1, got {twice[0]!r} more than once.",
            remedy="Rename one, or give `header=False` if the first line holds data.",
        )
    return names


def read_delimited(path: Path, dialect: Dialect, *, words: Collection[str] = (), skip: Collection[str] = ()) -> Table:
    """Read a delimited file.

    Args:
        path: plain or gzip.
        dialect: how it is written.
        words: columns to read as words even where all cells are numbers.
        skip: columns not to read.

    Raises:
        DataError: for text in another encoding, a row of another length, a cut-off file, or no rows.
    """
    names = column_names(path, dialect)
    lost = frozenset(dialect.missing_values)
    readers: dict[str, _NumberReader | _WordReader] = {
        name: _WordReader(lost) if name in words else _NumberReader(lost) for name in names if name not in skip
    }
    lines = _scan(path, dialect, names, readers)
    again = {n: _WordReader(lost) for n, r in readers.items() if isinstance(r, _NumberReader) and r.failed}
    if again:
        _scan(path, dialect, names, again)
    columns: dict[str, Column] = {name: {**readers, **again}[name].column() for name in readers}
    return Table(columns, lines, path.name, unnamed=_unnamed(path, dialect))


def _unnamed(path: Path, dialect: Dialect) -> tuple[str, ...]:
    first = next(_blocks(path, dialect, rows=1)).rows[0] if dialect.header else []
    return tuple(f"c{i}" for i, cell in enumerate(first) if not cell.strip())


def _scan(path: Path, dialect: Dialect, names: list[str], readers: dict) -> np.ndarray:
    """Feed every block to the readers; int64 [n] line of each row."""
    lines: list[int] = []
    for block in _blocks(path, dialect, skip_first=dialect.header):
        _check_widths(block, len(names), path.name)
        lines += block.lines
        for name, cells in zip(names, zip(*block.rows, strict=True), strict=True):
            if name in readers:
                readers[name].add(cells)
    if not lines:
        raise DataError(f"Expected rows below the header in {path.name}, got none.", remedy="Check the file.")
    return np.array(lines, dtype=np.int64)


def _blocks(path: Path, dialect: Dialect, *, rows: int = ROWS_PER_BLOCK, skip_first: bool = False) -> Iterator[_Block]:
    encoding = "utf-8-sig" if dialect.encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else dialect.encoding
    with opened(path, limit=MAX_BYTES) as stream:
        reader = csv.reader(io.TextIOWrapper(stream, encoding, newline=""), delimiter=dialect.delimiter, strict=True)
        numbered = ((reader.line_num, row) for row in reader if row)
        try:
            next(islice(numbered, 1), None) if skip_first else None
            while block := list(islice(numbered, rows)):
                yield _Block([line for line, _ in block], [row for _, row in block])
        except UnicodeDecodeError as error:
            raise DataError(
                f"Expected {dialect.encoding} text in {path.name}, got other bytes after line {reader.line_num}.",
                remedy='Give the right `encoding`, e.g. "latin-1"; a pickled or compressed table is not CSV.',
            ) from error
        except csv.Error as error:
            raise DataError(
                f"Expected rows of cells in {path.name}, got at line {reader.line_num}: {error}.",
                remedy="Check the quotes around there; the file may be cut off.",
            ) from error


def _check_widths(block: _Block, width: int, where: str) -> None:
    for line, row in zip(block.lines, block.rows, strict=True):
        if len(row) != width:
            raise DataError(
                f"Expected {width} cells in {where}, line {line}, got {len(row)}.",
                remedy="Check the delimiter and quotes there; a short last line means that the file is cut off.",
            )


def _numbers(cells: Sequence[str], missing: frozenset[str]) -> Floats | None:
    """float64 [n], NaN where missing; None where a cell is neither a number nor missing."""
    if "_" in "".join(cells):  # float("1_2") is 12 in Python; in a table it is a code
        return None
    plain = missing <= _PARSE_AS_MISSING
    found = _parsed(map(float, cells), len(cells)) if plain else None  # the fast path, for columns without gaps
    if found is None:
        found = _parsed((np.nan if cell.strip() in missing else float(cell) for cell in cells), len(cells))
    return found


def _parsed(numbers: Iterable[float], count: int) -> Floats | None:
    try:
        return np.fromiter(numbers, np.float64, count)
    except ValueError:
        return None


# These never parse as an ordinary number, so that the fast path cannot take one for a value.
_PARSE_AS_MISSING = frozenset(MISSING_VALUES)
