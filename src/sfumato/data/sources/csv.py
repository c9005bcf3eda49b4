"""CSV and its relatives (semicolons, tabs), plain or gzip."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from sfumato.data.formats.delimited import Dialect, column_names, read_delimited
from sfumato.data.formats.table import MISSING_VALUES, Table
from sfumato.data.sources.base import names
from sfumato.data.sources.tables import TableSource


@dataclass(frozen=True)
class CSV(TableSource):
    """A delimited text file; see `TableSource` for the roles of columns.

    Args:
        delimiter: one character.
        header: whether the first line names the columns; otherwise they are c0, c1, ...
        encoding: of the text.
        missing_values: cells that mean "not known".
    """

    name: ClassVar[str] = "csv"
    summary: ClassVar[str] = "Your own table as CSV, plain or gzip: name the label, unit and group columns."
    _: KW_ONLY
    delimiter: str = ","
    header: bool = True
    encoding: str = "utf-8"
    missing_values: tuple[str, ...] = MISSING_VALUES

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "missing_values", names(self.missing_values))
        self._dialect()

    def _dialect(self) -> Dialect:
        return Dialect(self.delimiter, self.header, self.encoding, self.missing_values)

    def column_names(self, path: Path) -> list[str]:
        return column_names(path, self._dialect())

    def read(self, path: Path, *, words: Collection[str], skip: Collection[str]) -> Table:
        return read_delimited(path, self._dialect(), words=words, skip=skip)
