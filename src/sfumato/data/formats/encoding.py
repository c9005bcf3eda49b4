"""From the columns of a table to features and classes; each thing that is fitted on the records writes an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sfumato.accounting.history import Event
from sfumato.data.formats.table import Numbers, Table, Words, is_number
from sfumato.errors import DataError
from sfumato.types import Bools, Floats, Ints

MISSING_CHOICES = ("refuse", "drop", "mean", "most-frequent", "indicator")
MISSING_WORD = "(missing)"
MAX_CATEGORIES = 100
LARGEST = float(np.finfo(np.float32).max)


class Encoded(NamedTuple):
    """Feature columns and what it took to make them.

    Args:
        matrix: float32 [n, features].
        names: one per feature; `column=category` for one-hot features.
        events: reads of the records that fitted something.
    """

    matrix: Floats
    names: tuple[str, ...]
    events: tuple[Event, ...]


class Classes(NamedTuple):
    """Labels as numbers.

    Args:
        labels: int64 [n].
        names: one per class.
        events: a read, where the class list was fitted on the records.
    """

    labels: Ints
    names: tuple[str, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class _Part:
    """The features made of one column, and what was fitted for it ("" for nothing)."""

    matrix: Floats
    names: tuple[str, ...]
    fitted: tuple[str, ...] = ()


def complete_rows(table: Table, columns: Sequence[str]) -> Bools:
    """bool [n]: rows without a missing value in any of `columns`."""
    kept = np.ones(len(table), dtype=bool)
    for name in columns:
        kept &= ~table.columns[name].missing
    return kept


def refuse_missing(table: Table, columns: Sequence[str], remedy: str) -> None:
    """Refuse the first missing value in `columns`, by line and column."""
    for name in columns:
        if (lost := table.columns[name].missing).any():
            row = int(np.flatnonzero(lost)[0])
            raise DataError(
                f"Expected a value at {table.place(row, name)}, got a missing one ({int(lost.sum())} in this column).",
                remedy=remedy,
            )


def encode_features(
    table: Table,
    columns: Sequence[str],
    *,
    missing: str,
    categories: Mapping[str, Sequence[str]],
    declared: Sequence[str] = (),
) -> Encoded:
    """Numbers as they are, words one-hot, in the order of the table.

    Args:
        table: n rows.
        columns: those to encode.
        missing: "refuse"; "mean" (numbers by the column's mean, words by the most frequent); "most-frequent";
            "indicator" (numbers by 0 and a column `NAME is missing`, words by a category of their own).
            Rows are dropped before, see `complete_rows`.
        categories: column -> its public list of categories; a list that is not given is fitted on the records.
        declared: columns that the user called categorical, which may have any number of categories.

    Raises:
        DataError: for an infinite value, a category outside its public list, or words that look like damaged numbers.
    """
    if missing == "refuse":
        refuse_missing(table, columns, remedy="Choose `missing`: drop, mean, most-frequent or indicator.")
    parts = []
    for name in columns:
        column = table.columns[name]
        if isinstance(column, Numbers):
            parts.append(_numbers_part(table, name, column, missing))
        else:
            public = categories.get(name)
            if public is None and name not in declared:
                _check_category_count(table, name, column)
            parts.append(_words_part(table, name, column, missing, public))
    return Encoded(
        np.concatenate([part.matrix for part in parts], axis=1),
        tuple(name for part in parts for name in part.names),
        _events(columns, parts, len(table)),
    )


def encode_labels(table: Table, name: str, classes: Sequence[str]) -> Classes:
    """Labels as positions in the class list.

    Whole numbers 0 .. k-1 are an encoding that the user chose and stay as they are. Any other labels get a class list
    that is sorted (as numbers where all are) and fitted on the records, unless `classes` gives a public one.

    Raises:
        DataError: for a missing or unlisted label, one class only, or labels that are measurements.
    """
    refuse_missing(table, [name], remedy='Remove the row, or choose `missing="drop"`.')
    column = table.words(name)
    if len(column.vocabulary) < 2:
        raise DataError(
            f"Expected two or more classes in {table.where}, column `{name}`, got {''.join(column.vocabulary)!r} only.",
            remedy="Check that this is the label column, and any filter.",
        )
    if classes:
        return Classes(_positions(table, name, column, classes, "classes"), tuple(classes), ())
    if len(column.vocabulary) > 20 and 2 * len(column.vocabulary) > len(table):
        raise DataError(
            f"Expected classes in {table.where}, column `{name}`, got {len(column.vocabulary)} different values in "
            f"{len(table)} rows.",
            remedy="Name a column of classes; bin a measurement first.",
        )
    names = _sorted_classes(column.vocabulary)
    chosen = names == tuple(map(str, range(len(names))))
    fitted = Event("data", f"the class list of `{name}`, fitted on the records (give `classes`)", len(table))
    return Classes(_positions(table, name, column, names, "classes"), names, () if chosen else (fitted,))


def _sorted_classes(words: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(words, key=lambda word: (float(word), word)))
    except ValueError:
        return tuple(sorted(words))


def _positions(table: Table, name: str, column: Words, listed: Sequence[str], option: str) -> Ints:
    """int64 [n] position of each word in a list; -1 stays where missing."""
    rank = {word: position for position, word in enumerate(listed)}
    recode = np.array([*(rank.get(word, -2) for word in column.vocabulary), -1], dtype=np.int64)
    positions = recode[column.codes]
    if (positions == -2).any():
        row = int(np.flatnonzero(positions == -2)[0])
        raise DataError(
            f"Expected one of {', '.join(map(repr, list(listed)[:12]))} at {table.place(row, name)}, "
            f"got {column.vocabulary[column.codes[row]]!r}.",
            remedy=f"Add it to `{option}`, or correct the row.",
        )
    return positions


def _check_category_count(table: Table, name: str, column: Words) -> None:
    if len(column.vocabulary) <= MAX_CATEGORIES:
        return
    odd = next((code for code, word in enumerate(column.vocabulary) if not is_number(word)), 0)
    row = int(np.flatnonzero(column.codes == odd)[0])
    raise DataError(
        f"Expected numbers or at most {MAX_CATEGORIES} categories in column `{name}`, got {len(column.vocabulary)} "
        f"different values; {column.vocabulary[odd]!r} at {table.place(row, name)} is not a number.",
        remedy=f"Correct it, add it to `missing_values`, or give `categorical=({name!r},)` or `drop=({name!r},)`.",
    )


def _numbers_part(table: Table, name: str, column: Numbers, missing: str) -> _Part:
    values, lost = column.values, column.missing
    if (outside := np.abs(values) > LARGEST).any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"Expected a finite number at {table.place(row, name)}, got {values[row]}.",
            remedy="Correct it, or leave the cell empty and choose `missing`.",
        )
    if not lost.any():
        return _Part(values[:, None].astype(np.float32), (name,))
    if missing == "indicator":
        both = np.stack([np.where(lost, 0.0, values), lost], axis=1).astype(np.float32)
        return _Part(both, (name, f"{name} is missing"), ("which columns have missing values",))
    if lost.all():
        raise DataError(
            f"Expected values in {table.where}, column `{name}`, got none to fit `missing={missing!r}` on.",
            remedy=f"Leave the column out with `drop=({name!r},)`.",
        )
    filled = np.where(lost, _fill(values[~lost], missing), values)
    return _Part(filled[:, None].astype(np.float32), (name,), (f"the {missing} of columns with missing values",))


def _fill(known: Floats, missing: str) -> float:
    if missing == "mean":
        return float(known.mean())
    values, counts = np.unique(known, return_counts=True)
    return float(values[counts.argmax()])


def _words_part(table: Table, name: str, column: Words, missing: str, public: Sequence[str] | None) -> _Part:
    listed = tuple(public) if public is not None else _sorted_classes(column.vocabulary)
    fitted = () if public is not None else ("category lists",)
    codes = _positions(table, name, column, listed, f"categories[{name!r}]")
    lost = codes < 0
    if lost.any() and missing == "indicator":
        if MISSING_WORD not in listed:
            listed, fitted = (*listed, MISSING_WORD), (*fitted, "which columns have missing values")
        codes = np.where(lost, listed.index(MISSING_WORD), codes)
    elif lost.any():
        if lost.all():
            raise DataError(
                f"Expected values in {table.where}, column `{name}`, got none to fit `missing={missing!r}` on.",
                remedy=f"Leave the column out with `drop=({name!r},)`.",
            )
        codes = np.where(lost, np.bincount(codes[~lost]).argmax(), codes)
        fitted = (*fitted, "the most frequent category of columns with missing values")
    one_hot = (codes[:, None] == np.arange(len(listed))).astype(np.float32)
    return _Part(one_hot, tuple(f"{name}={word}" for word in listed), fitted)


def _events(columns: Sequence[str], parts: Sequence[_Part], records: int) -> tuple[Event, ...]:
    """One event per kind of thing fitted, naming the columns."""
    kinds = dict.fromkeys(kind for part in parts for kind in part.fitted)
    return tuple(
        Event("data", f"{kind} fitted on the records ({_named(kind, columns, parts)})", records) for kind in kinds
    )


def _named(kind: str, columns: Sequence[str], parts: Sequence[_Part]) -> str:
    names = [f"`{name}`" for name, part in zip(columns, parts, strict=True) if kind in part.fitted]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
