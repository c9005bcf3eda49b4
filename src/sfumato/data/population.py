"""A population: the records that are protected, the people they belong to, and what else is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from sfumato.accounting.history import Event
from sfumato.canonical import content_hash
from sfumato.data.records import ArrayRecords, Records
from sfumato.errors import DataError, UsageError
from sfumato.types import Bools, Ints, Rows, Strings
from sfumato.validate import at_least


@dataclass(frozen=True, eq=False)
class Unit:
    """What the guarantee and the games are about: one example, one patient, one account.

    Args:
        name: the word used in reports, e.g. "example", "patient".
        of: [n] the unit that each record belongs to; None when every record is a unit of its own.
    """

    name: str
    of: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError(
                "Expected the name of the unit of privacy, got nothing.",
                remedy='Say whose privacy counts, e.g. unit="example" or unit="patient".',
            )
        if self.of is not None and (lost := _missing(np.asarray(self.of))).any():
            raise DataError(
                f"Expected the unit ({self.name}) of every record, got none for record {int(lost.argmax())}.",
                remedy="Fill it in or remove the record; records without a unit would be protected as one person.",
            )


@dataclass(frozen=True, eq=False)
class Population:
    """Records and what is known of them. Immutable; every split is made by unit, never through one.

    Args:
        records: n records.
        unit: the unit of privacy; there is no default, because the choice is the user's duty. A plain word means
            that every record is a unit of its own.
        labels: int64 [n], classes 0 .. classes-1; None where there are none.
        ids: [n] distinct text; by default the positions.
        groups: name -> [n] text, for results by group (never used for training).
        class_names: one word per class.
        name: for progress lines and reports.
        kind: "table" or "image"; decides default models and augmentations.
        events: reads of the private records that it took to build this population (a fitted category list, say).
        notes: what was left out while reading (rows with missing values, say), for the user's eyes.
    """

    records: Records
    unit: Unit
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    name: str = "data"
    kind: str = "table"
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.unit, str):
            object.__setattr__(self, "unit", Unit(self.unit))
        if isinstance(self.records, np.ndarray):
            object.__setattr__(self, "records", ArrayRecords(self.records))
        if self.ids is None:
            object.__setattr__(self, "ids", np.arange(len(self.records)).astype(str))
        else:
            object.__setattr__(self, "ids", np.asarray(self.ids).astype(str))
        _check_lengths(self)
        _check_ids(self.id_array)
        if self.labels is not None:
            object.__setattr__(self, "labels", _checked_labels(self.labels, self.class_names))
        if not self.class_names and self.labels is not None:
            object.__setattr__(self, "class_names", tuple(str(c) for c in range(int(self.labels.max()) + 1)))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def id_array(self) -> Strings:
        """[n] distinct ids as text."""
        return np.asarray(self.ids)

    @property
    def label_array(self) -> Ints:
        """int64 [n]; refuses a population without labels."""
        if self.labels is None:
            raise UsageError("Expected labels, got a population without them.", remedy="Name the label column.")
        return self.labels

    @property
    def classes(self) -> int:
        """Number of classes, named ones included that have no record here."""
        return max(len(self.class_names), int(self.label_array.max()) + 1)

    @cached_property
    def _unit_codes(self) -> tuple[np.ndarray, np.ndarray]:
        if self.unit.of is None:
            return self.id_array, np.arange(len(self), dtype=np.int64)
        names, first, codes = np.unique(np.asarray(self.unit.of).astype(str), return_index=True, return_inverse=True)
        order = np.argsort(first)  # units in order of first appearance, so a prefix of records is a prefix of units
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return names[order], rank[codes].astype(np.int64)

    @property
    def unit_of(self) -> Rows:
        """int64 [n]: position of the unit that each record belongs to, 0 .. units-1."""
        return self._unit_codes[1]

    @property
    def unit_names(self) -> Strings:
        """[units] text. Personal: never written into a record or report."""
        return self._unit_codes[0]

    @property
    def units(self) -> int:
        """Number of units of privacy."""
        return len(self._unit_codes[0])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over records, labels, ids and units: what a stored result must agree with."""
        parts = [self.records.fingerprint, self.labels, self.id_array, self.unit.name, self.unit_of]
        return content_hash([part if part is not None else "" for part in parts])

    def rows_of(self, units: Bools) -> Bools:
        """Bool [n]: the records that go when `units` (bool [units]) go. A graph would take edges along here."""
        return np.asarray(units)[self.unit_of]

    def take(self, rows: Rows) -> Population:
        """The population of the records at `rows`; refuses to cut a unit in two."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        touched = np.unique(self.unit_of[rows])
        whole = np.isin(self.unit_of, touched).sum()
        if whole != len(np.unique(rows)):
            raise DataError(
                f"Expected whole units ({self.unit.name}), got {len(rows)} of the {whole} records of the units named.",
                remedy="Choose units and use `rows_of(units)`, so that no one is half in.",
            )
        return self._pick(rows)

    def take_units(self, units: Rows) -> Population:
        """The population of the units at positions `units` (int [k]), with all their records."""
        wanted = np.zeros(self.units, dtype=bool)
        wanted[np.asarray(units)] = True
        return self._pick(np.flatnonzero(self.rows_of(wanted)))

    def sample(self, records: int, rng: np.random.Generator) -> Population:
        """Whole units at random until `records` records are reached (the last unit may go over)."""
        at_least("records", records, 1)
        if records >= len(self):
            return self
        order = rng.permutation(self.units)
        sizes = np.bincount(self.unit_of, minlength=self.units)[order]
        enough = int(np.searchsorted(np.cumsum(sizes), records)) + 1
        return self.take_units(order[:enough])

    def split(self, fractions: Mapping[str, float], rng: np.random.Generator) -> dict[str, Population]:
        """Disjoint parts by unit; `fractions` sum to at most 1."""
        if sum(fractions.values()) > 1 + 1e-9 or min(fractions.values(), default=0.0) < 0:
            raise UsageError(
                f"Expected fractions from 0 that sum to at most 1, got {dict(fractions)}.",
                remedy="Lower one of them.",
            )
        order = rng.permutation(self.units)
        cuts = np.round(np.cumsum([0.0, *fractions.values()]) * self.units).astype(int)
        parts = {name: order[a:b] for name, a, b in zip(fractions, cuts[:-1], cuts[1:], strict=True)}
        if empty := [name for name, units in parts.items() if len(units) == 0]:
            raise DataError(
                f"Expected a unit ({self.unit.name}) in each part, got none of {self.units} for {empty[0]!r}.",
                remedy="Raise its fraction, or leave the part out.",
            )
        return {name: self.take_units(units) for name, units in parts.items()}

    def tensor(self, rows: Rows) -> torch.Tensor:
        """float32 [k, *shape]: the records at `rows`. Training goes through `PrivateView`, which writes an event."""
        return self.records.take(np.asarray(rows, dtype=np.int64))

    def _pick(self, rows: np.ndarray) -> Population:
        unit = self.unit if self.unit.of is None else Unit(self.unit.name, np.asarray(self.unit.of)[rows])
        return replace(
            self,
            records=ArrayRecords(self.records.array[rows])
            if isinstance(self.records, ArrayRecords)
            else Picked(self.records, rows),
            unit=unit,
            labels=None if self.labels is None else self.labels[rows],
            ids=self.id_array[rows],
            groups={name: np.asarray(values)[rows] for name, values in self.groups.items()},
        )


@dataclass(frozen=True, eq=False)
class Picked(Records):
    """Some records of another sequence, without a copy."""

    source: Records
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def take(self, rows: Rows) -> torch.Tensor:
        return self.source.take(self.rows[rows])

    @property
    def fingerprint(self) -> str:
        return content_hash([self.source.fingerprint, self.rows])


def _missing(values: np.ndarray) -> Bools:
    """bool [n]: NaN or None."""
    if values.dtype.kind == "O":
        return np.array([value is None or value != value for value in values], dtype=bool)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)


def _check_lengths(population: Population) -> None:
    given = {
        "ids": population.ids,
        "labels": population.labels,
        "unit": population.unit.of,
        **population.groups,
    }
    for name, values in given.items():
        if values is not None and len(values) != len(population.records):
            raise DataError(
                f"Expected `{name}` for each of {len(population.records)} records, got {len(values)}.",
                remedy="Pass one entry per record.",
            )


def _check_ids(ids: np.ndarray) -> None:
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = str(names[counts > 1][0])
        raise DataError(
            f"Expected distinct ids, got {twice!r} {int(counts.max())} times at most and {int((counts > 1).sum())} "
            "ids more than once.",
            remedy="Use a column that names each record once; the column that names the person is the unit.",
        )


def _checked_labels(labels: np.ndarray, class_names: tuple[str, ...]) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub" or labels.ndim != 1 or labels.min() < 0:
        raise DataError(
            f"Expected labels as whole numbers from 0, shape [n], got {labels.dtype} {labels.shape}.",
            remedy="Encode class names as 0, 1, 2, ... and pass them as `class_names`.",
        )
    if class_names and labels.max() >= len(class_names):
        raise DataError(
            f"Expected labels below {len(class_names)}, one per class name, got {labels.max()}.",
            remedy="Name every class.",
        )
    if len(class_names) < 2 and len(np.unique(labels)) < 2:  # a part of a larger population may hold one class only
        raise DataError(
            "Expected at least two classes among the labels, got one.",
            remedy="Check the label column and any filter.",
        )
    return labels.astype(np.int64)
