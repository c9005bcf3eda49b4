"""A target of which only a table of predictions, or of scores, is known."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sfumato.canonical import content_hash
from sfumato.data.formats.delimited import Dialect, read_delimited
from sfumato.data.formats.delimited import column_names as delimited_columns
from sfumato.data.formats.files import existing_file
from sfumato.data.formats.parquet import parquet_columns, read_parquet
from sfumato.data.formats.table import MISSING_VALUES, Numbers, Table, Words, check_columns, is_number
from sfumato.errors import DataError, UsageError
from sfumato.types import Bools, Floats, Ints, Rows, Strings

SUM_TOLERANCE = 0.02  # tables are often rounded to two or three digits
ROUNDING = 1e-6
TRUE_WORDS = {"1", "true", "yes", "member", "in"}
FALSE_WORDS = {"0", "false", "no", "nonmember", "non-member", "out"}


@dataclass(frozen=True, kw_only=True)
class PredictionColumns:
    """Names of the columns in a table of predictions.

    Args:
        label: the true class; a number from 0, or a word if the probability columns are named after the classes.
        member: whether the record was in the training set: 1/0, true/false, yes/no, in/out, member/nonmember.
        probabilities: one column per class, in the order of the classes; by default p0, p1, ...
        score: instead of probabilities: a finished membership score, higher means more likely a member.
        unit: the unit of privacy that the record belongs to; None when every row is one.
        groups: columns for results by group.
    """

    label: str = "label"
    member: str = "member"
    probabilities: tuple[str, ...] = ()
    score: str | None = None
    unit: str | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.probabilities) == 1:
            raise UsageError(
                f"Expected one probability column per class, at least two, got {self.probabilities[0]!r} alone.",
                remedy="For two classes give both columns: that of class 0, then that of class 1.",
            )
        measured = self.probabilities if self.score is None else (self.score,)
        roles = [self.member, *measured, *(() if self.score is not None else (self.label,))]
        twice = sorted({name for name in roles if roles.count(name) > 1})
        if twice:
            raise UsageError(
                f"Expected a column of its own for label, member and each probability or score, got {twice[0]!r} more "
                "than once.",
                remedy="A score that is read from the membership column would look like a perfect attack.",
            )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a table of predictions says.

    Args:
        name: of the file.
        unit: the word for the unit of privacy.
        members: bool [n].
        labels: int64 [n], or None for a table of scores.
        log_probabilities: float64 [n, classes], or None for a table of scores.
        scores: float64 [n], or None.
        unit_of: int64 [n].
        groups: name -> text [n].
    """

    name: str
    unit: str
    members: Bools
    unit_of: Rows
    labels: Ints | None = None
    log_probabilities: Floats | None = None
    scores: Floats | None = None
    groups: Mapping[str, Strings] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content."""
        parts = (self.members, self.labels, self.log_probabilities, self.scores, self.unit_of)
        return content_hash(["" if part is None else part for part in parts])

    @property
    def unit_members(self) -> Bools:
        """bool [units]; refuses a unit that is partly in and partly out."""
        units = int(self.unit_of.max()) + 1
        inside = np.bincount(self.unit_of, self.members, units)
        sizes = np.bincount(self.unit_of, minlength=units)
        if ((inside > 0) & (inside < sizes)).any():
            raise DataError(
                f"Expected every {self.unit} wholly in or wholly out of the training set, got "
                f"{int(((inside > 0) & (inside < sizes)).sum())} with rows of both kinds.",
                remedy="Check the `member` column, or choose another unit.",
            )
        return inside > 0


def read_predictions(path: Path, columns: PredictionColumns, *, unit: str, delimiter: str = ",") -> Predictions:
    """Read a CSV (plain or gzip) or Parquet file of predictions or scores.

    Args:
        path: the file.
        columns: what stands in which column.
        unit: the word for the unit of privacy, e.g. "example" or "patient"; the user's to say.
        delimiter: of a CSV file.

    Raises:
        DataError: naming file, line and column, with what to do.
    """
    path = existing_file(str(path), what="a table of predictions")
    parquet = path.suffix.lower() in {".parquet", ".pq"}
    dialect = Dialect(delimiter, True, "utf-8", MISSING_VALUES)
    present = parquet_columns(path) if parquet else delimited_columns(path, dialect)
    wanted = [] if columns.score else list(columns.probabilities or _numbered(present, path.name))
    named = {"member": [columns.member], "probabilities": wanted, "groups": columns.groups}
    named |= {} if columns.score else {"label": [columns.label]}
    named |= {"score": [columns.score]} if columns.score else {}
    named |= {"unit": [columns.unit]} if columns.unit else {}
    check_columns(named, present, path.name, "" if parquet else delimiter)
    words = {columns.member, columns.unit, columns.label, *columns.groups} & set(present)
    used = {column for listed in named.values() for column in listed}
    skip = set(present) - used
    table = (
        read_parquet(path, words=words, skip=skip) if parquet else read_delimited(path, dialect, words=words, skip=skip)
    )
    return _predictions(table, columns, wanted, unit)


def _predictions(table: Table, columns: PredictionColumns, wanted: Sequence[str], unit: str) -> Predictions:
    members = _members(table, columns.member)
    if members.all() or not members.any():
        raise DataError(
            f"Expected members and non-members in {table.where}, got {int(members.sum())} members among {len(members)} "
            "rows.",
            remedy="Add rows of the other kind: predictions on records outside the training set.",
        )
    scored = columns.score is not None
    return Predictions(
        name=table.where,
        unit=unit,
        members=members,
        unit_of=_codes(table, columns.unit),
        labels=None if scored else _labels(table, columns.label, wanted),
        log_probabilities=None if scored else _log_probabilities(table, wanted),
        scores=_numbers(table, columns.score) if columns.score is not None else None,
        groups={name: table.words(name).text() for name in columns.groups},
    )


def _numbered(present: Sequence[str], where: str) -> list[str]:
    found = {int(match[1]): name for name in present if (match := re.fullmatch(r"p(\d+)", name))}
    if len(found) < 2 or sorted(found) != list(range(len(found))):
        raise DataError(
            f"Expected probability columns p0, p1, ... in {where}, got {[found[i] for i in sorted(found)] or 'none'}.",
            remedy="Name them with `--probability-columns`, one per class in the order of the classes.",
        )
    return [found[i] for i in range(len(found))]


def _members(table: Table, name: str) -> Bools:
    text = [word.lower() for word in table.words(name).text(missing="").tolist()]
    for row, word in enumerate(text):
        if _plain_number(word) not in TRUE_WORDS | FALSE_WORDS:
            raise DataError(
                f"Expected 1/0, true/false, yes/no, in/out or member/nonmember, got {word!r} at "
                f"{table.place(row, name)}.",
                remedy="Correct the value.",
            )
    return np.array([_plain_number(word) in TRUE_WORDS for word in text])


def _plain_number(word: str) -> str:
    return {"1.0": "1", "0.0": "0"}.get(word, word)


def _labels(table: Table, name: str, probabilities: Sequence[str]) -> Ints:
    words = table.words(name).text(missing="").tolist()
    by_name = {column: code for code, column in enumerate(probabilities)}
    labels = np.empty(len(words), dtype=np.int64)
    for row, word in enumerate(words):
        code = by_name.get(word, _whole_number(word))
        if code is None or not 0 <= code < len(probabilities):
            raise DataError(
                f"Expected a class from 0 to {len(probabilities) - 1} (or the name of a probability column), got "
                f"{word!r} at {table.place(row, name)}.",
                remedy="Number the classes from 0 in the order of the probability columns.",
            )
        labels[row] = code
    return labels


def _whole_number(word: str) -> int | None:
    number = float(word) if is_number(word) else math.nan
    return int(number) if number.is_integer() else None


def _log_probabilities(table: Table, names: Sequence[str]) -> Floats:
    p = np.stack([_numbers(table, name) for name in names], axis=1)
    wrong = np.flatnonzero(
        (p < -ROUNDING).any(axis=1) | (p > 1 + ROUNDING).any(axis=1) | (np.abs(p.sum(axis=1) - 1) > SUM_TOLERANCE)
    )
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"Expected probabilities from 0 to 1 that sum to 1, got {p[row].min():.4g} to {p[row].max():.4g} with sum "
            f"{p[row].sum():.4g} at {table.place(row)} ({len(wrong)} such rows).",
            remedy="Give softmax outputs, not logits or percentages.",
        )
    tiny = np.finfo(np.float64).tiny  # a printed 0 means "too small to print"
    return np.log(np.clip(p, tiny, None))


def _numbers(table: Table, name: str) -> Floats:
    column = table.columns[name]
    if isinstance(column, Words):
        text = column.text(missing="0").tolist()
        row = next((row for row, word in enumerate(text) if not is_number(word)), 0)
        raise DataError(
            f"Expected a number at {table.place(row, name)}, got {text[row]!r}.", remedy="Check the column."
        )
    return _complete(table, name, column)


def _complete(table: Table, name: str, column: Numbers) -> Floats:
    wrong = np.flatnonzero(~np.isfinite(column.values))
    if len(wrong):
        raise DataError(
            f"Expected a finite number at {table.place(int(wrong[0]), name)}, got a missing or infinite one "
            f"({len(wrong)} such rows).",
            remedy="Correct or remove these rows.",
        )
    return column.values


def _codes(table: Table, unit: str | None) -> Rows:
    if unit is None:
        return np.arange(len(table), dtype=np.int64)
    text = table.words(unit).text(missing="")
    if (text == "").any():
        row = int(np.flatnonzero(text == "")[0])
        raise DataError(
            f"Expected a unit at {table.place(row, unit)}, got nothing.", remedy="Name it or remove the row."
        )
    return np.unique(text, return_inverse=True)[1].astype(np.int64)
