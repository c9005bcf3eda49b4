"""What CSV and Parquet tables share: the roles of columns, and the way from a table to a population."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import numpy as np

from sfumato.data.formats.encoding import (
    MISSING_CHOICES,
    Classes,
    complete_rows,
    encode_features,
    encode_labels,
    refuse_missing,
)
from sfumato.data.formats.files import existing_file
from sfumato.data.formats.table import Numbers, Table, check_columns
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source, names
from sfumato.errors import DataError, UsageError
from sfumato.validate import one_of


@dataclass(frozen=True)
class TableSource(Source):
    """A table of the user's own.

    Args:
        path: the file.
        label: column of the classes (text or numbers); None, said aloud, for a table without labels.
        unit: column that names the person whose privacy counts, or "example": every row is a unit of its own. A column
            called `example` is used as a column. There is no default.
        id: column with a distinct name per record; by default the row's position.
        groups: columns for results by group; not used as features unless `keep` names them too.
        keep: group columns that are features as well.
        drop: columns to leave out.
        categorical: columns of categories even where they look like numbers.
        categories: column -> its public list of categories. A list that is not given is fitted on the records, which
            is a read without a privacy mechanism and stands in the events.
        classes: public list of classes, in order; fitted on the records otherwise, unless labels are 0 .. k-1.
        missing: "refuse", "drop" (the row), "mean" (words: the most frequent), "most-frequent", "indicator".
    """

    path: str
    _: KW_ONLY
    label: str | None
    unit: str
    id: str | None = None
    groups: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    missing: str = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))
        for option in ("groups", "keep", "drop", "categorical", "classes"):
            object.__setattr__(self, option, tuple(map(str, names(getattr(self, option)))))
        listed = {str(column): tuple(map(str, names(words))) for column, words in self.categories.items()}
        object.__setattr__(self, "categories", listed)
        one_of("missing", self.missing, MISSING_CHOICES)
        _check_lists({"classes": self.classes, **{f"categories[{c!r}]": words for c, words in listed.items()}})
        self._check_roles()

    @abstractmethod
    def column_names(self, path: Path) -> list[str]:
        """The columns of the file at `path`, in order."""

    @abstractmethod
    def read(self, path: Path, *, words: Collection[str], skip: Collection[str]) -> Table:
        """The table at `path`: columns `words` read as words, columns `skip` not read."""

    def load(self) -> Population:
        path = existing_file(self.path, what=f"a {self.name} table")
        present = self.column_names(path)
        self._check_named(present, path.name)
        features = self._features(present, path.name)
        table = self.read(path, words=self._words(present), skip=self._skipped(present))
        _refuse_unnamed(table, features)
        return self._population(*self._without_missing(table, features), features)

    def _check_roles(self) -> None:
        if not self.unit:
            raise UsageError("Expected `unit`, got nothing.", remedy='Give a column, or "example" for row by row.')
        outside = set(self.keep) - set(self.groups)
        if outside:
            raise UsageError(
                f"Expected `keep` to name columns of `groups`, got {sorted(outside)[0]!r}.",
                remedy="Other columns are features anyway; label, unit and id never are.",
            )
        used = {self.label, self.unit, self.id, *self.groups, *self.categorical, *self.categories}
        if clash := sorted(set(self.drop) & used):
            raise UsageError(f"Expected `drop` to name unused columns, got {clash[0]!r}.", remedy="Choose one role.")

    def _check_named(self, present: list[str], where: str) -> None:
        single = {"label": self.label, "id": self.id, "unit": None if self.unit == "example" else self.unit}
        named = {option: [column] for option, column in single.items() if column is not None}
        several = {"groups": self.groups, "drop": self.drop, "categorical": self.categorical}
        several["categories"] = tuple(self.categories)
        check_columns({**named, **several}, present, where, getattr(self, "delimiter", ""))

    def _unit_column(self, present: Collection[str]) -> str | None:
        return self.unit if self.unit in present else None

    def _features(self, present: list[str], where: str) -> list[str]:
        taken = {self.label, self._unit_column(present), self.id, *self.drop, *(set(self.groups) - set(self.keep))}
        features = [column for column in present if column not in taken]
        if not features:
            raise DataError(f"Expected feature columns in {where}, got none left.", remedy="Check `drop` and `groups`.")
        return features

    def _words(self, present: list[str]) -> set[str]:
        """Columns to read as words. A group that is kept as a number would lose it, so it is read as numbers."""
        roles = {self.label, self._unit_column(present), self.id, *(set(self.groups) - set(self.keep))}
        return {column for column in roles if column is not None} | set(self.categorical) | set(self.categories)

    def _skipped(self, present: list[str]) -> set[str]:
        return set(self.drop) & set(present)

    def _without_missing(self, table: Table, features: list[str]) -> tuple[Table, str]:
        """The table whose named columns are complete, and a note on rows left out."""
        named = [c for c in (self._unit_column(table.columns), self.id) if c is not None]
        refuse_missing(table, named, remedy="Every record needs its unit and id: correct the row or remove it.")
        if self.missing != "drop":
            return table, ""
        kept = complete_rows(table, [*features, *([self.label] if self.label else [])])
        if not kept.any():
            raise DataError(
                f"Expected a row without missing values in {table.where}, got none of {len(table)}.",
                remedy="Choose another `missing`, or leave columns out with `drop`.",
            )
        lost = int((~kept).sum())
        return table.take(kept), f"{lost} of {len(kept)} rows with missing values left out" if lost else ""

    def _population(self, table: Table, note: str, features: list[str]) -> Population:
        encoded = encode_features(
            table,
            features,
            missing=self.missing,
            categories=self.categories,
            declared=self.categorical,
        )
        labels = (
            encode_labels(table, self.label, self.classes) if self.label else Classes(np.empty(0, np.int64), (), ())
        )
        unit = self._unit_column(table.columns)
        return Population(
            ArrayRecords(encoded.matrix),
            Unit("example") if unit is None else Unit(unit, table.words(unit).text()),
            labels=labels.labels if self.label else None,
            ids=None if self.id is None else _distinct(table, self.id),
            groups={name: _group(table, name) for name in self.groups},
            class_names=labels.names,
            name=Path(self.path).name.split(".")[0],
            events=(*encoded.events, *labels.events),
            notes=(note,) if note else (),
        )


def _check_lists(lists: Mapping[str, tuple[str, ...]]) -> None:
    for option, words in lists.items():
        if len(set(words)) != len(words):
            raise UsageError(f"Expected distinct words in `{option}`, got one twice.", remedy="List each once.")
    if len(lists["classes"]) == 1:
        raise UsageError("Expected at least two `classes`, got one.", remedy="List all classes.")


def _refuse_unnamed(table: Table, features: list[str]) -> None:
    """A column without a name is nearly always a saved row number, which would tell training rows apart."""
    if unnamed := [name for name in table.unnamed if name in features]:
        raise DataError(
            f"Expected a name for every column in {table.where}, line 1, got none for column {unnamed[0]}.",
            remedy=f"It may be a saved row number: give `drop=({unnamed[0]!r},)` or `id={unnamed[0]!r}`, or name it.",
        )


def _group(table: Table, name: str) -> np.ndarray:
    column = table.columns[name]
    if isinstance(column, Numbers):
        return np.array(["(missing)" if value != value else f"{value:g}" for value in column.values])
    return column.text()


def _distinct(table: Table, name: str) -> np.ndarray:
    column = table.words(name)
    counts = np.bincount(column.codes)
    if counts.max() > 1:
        rows = np.flatnonzero(column.codes == counts.argmax())
        raise DataError(
            f"Expected distinct ids in {table.where}, column `{name}`, got {column.vocabulary[counts.argmax()]!r} at "
            f"{table.counted_in}s {table.lines[rows[0]]} and {table.lines[rows[1]]}.",
            remedy="Use a column that names each record once; the column that names the person is the unit.",
        )
    return column.text()
