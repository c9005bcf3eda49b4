"""A table in memory: columns of numbers or of words, and the line of the file that each row came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from sfumato.errors import DataError
from sfumato.types import Bools, Floats, Ints, Strings

MISSING_VALUES = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of numbers.

    Args:
        values: float64 [n]; NaN where missing.
    """

    values: Floats

    @property
    def missing(self) -> Bools:
        """bool [n]."""
        return np.isnan(self.values)

    def take(self, rows: np.ndarray) -> Numbers:
        """The column of the rows in `rows` (bool [n] or positions)."""
        return Numbers(self.values[rows])


@dataclass(frozen=True, eq=False)
class Words:
    """A column of words, each stored once.

    Args:
        codes: int64 [n], positions in `vocabulary`; -1 where missing.
        vocabulary: the distinct words.
    """

    codes: Ints
    vocabulary: tuple[str, ...]

    @property
    def missing(self) -> Bools:
        """bool [n]."""
        return self.codes < 0

    def take(self, rows: np.ndarray) -> Words:
        """The column of the rows in `rows`; words that no row has any more are forgotten."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        named = used >= 0
        renumbered = np.where(named, np.cumsum(named) - 1, -1)
        return Words(renumbered[codes].astype(np.int64), tuple(self.vocabulary[code] for code in used[named]))

    def text(self, missing: str = "(missing)") -> Strings:
        """[n] text, `missing` where there is none."""
        return np.array([*self.vocabulary, missing])[self.codes]

    @classmethod
    def from_raw(cls, codes: Ints, vocabulary: Iterable[str], missing_values: Iterable[str]) -> Words:
        """Strip blanks around the words, join those that become equal, and mark the missing ones."""
        lost, ranks = set(missing_values), {}
        recode = [-1 if word in lost else ranks.setdefault(word, len(ranks)) for word in map(str.strip, vocabulary)]
        return cls(np.array([*recode, -1], dtype=np.int64)[codes], tuple(ranks))


Column = Numbers | Words


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one length.

    Args:
        columns: name -> column, in the order of the file.
        lines: int64 [n], the line or row of the file that each row stands in, from 1.
        where: the file's name, for errors.
        counted_in: "line" or "row".
        unnamed: names that stand for columns without one in the header.
    """

    columns: dict[str, Column]
    lines: Ints
    where: str
    counted_in: str = "line"
    unnamed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int, column: str = "") -> str:
        """Words that lead the user to a value, e.g. "patients.csv, line 17, column `age`"."""
        tail = f", column `{column}`" if column else ""
        return f"{self.where}, {self.counted_in} {self.lines[row]}{tail}"

    def take(self, rows: np.ndarray) -> Table:
        """The table of the rows in `rows` (bool [n] or positions)."""
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return Table(columns, self.lines[rows], self.where, self.counted_in, self.unnamed)

    def words(self, name: str) -> Words:
        """The column `name`, which the reader was asked to read as words."""
        column = self.columns[name]
        if not isinstance(column, Words):
            raise TypeError(f"Expected column {name!r} to have been read as words.")
        return column


def check_columns(named: dict[str, Iterable[str]], present: list[str], where: str, delimiter: str = "") -> None:
    """Refuse a column that the file does not have, and suggest the nearest.

    Args:
        named: option -> columns that it names.
        present: the file's columns.
        where: the file's name.
        delimiter: the one in use, named where the file seems to have another; "" for formats without one.
    """
    for option, names in named.items():
        for name in names:
            if name not in present:
                raise DataError(
                    f"Expected a column {name!r} (option `{option}`) in {where}, got {_shown(present)}.",
                    remedy=_hint(name, present, delimiter),
                )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(map(repr, names[:12])) + more


def _hint(name: str, present: list[str], delimiter: str) -> str:
    if near := get_close_matches(name, present, n=1, cutoff=0.5):
        return f"Did you mean {near[0]!r}?"
    if folded := [column for column in present if column.casefold() == name.casefold()]:
        return f"Did you mean {folded[0]!r}?"
    if delimiter and len(present) == 1:
        return f"Only one column was found with delimiter {delimiter!r}: give the right `delimiter`."
    if delimiter and all(is_number(column) for column in present):
        return (
            "The first line holds numbers only: for a file without a header give `header=False` (columns c0, c1, ...)."
        )
    return "Use one of the columns of the file."


def is_number(text: str) -> bool:
    """Whether a cell is a number; "1_2", which Python would take for 12, is not."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
