"""Parquet tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sfumato.data.formats.parquet import parquet_columns, read_parquet
from sfumato.data.formats.table import Table
from sfumato.data.sources.tables import TableSource


@dataclass(frozen=True)
class Parquet(TableSource):
    """A Parquet file (needs the extra `tables`); see `TableSource` for the roles of columns."""

    name: ClassVar[str] = "parquet"
    summary: ClassVar[str] = "Your own table as Parquet: name the label, unit and group columns."

    def column_names(self, path: Path) -> list[str]:
        return parquet_columns(path)

    def read(self, path: Path, *, words: Collection[str], skip: Collection[str]) -> Table:
        return read_parquet(path, words=words, skip=skip)
