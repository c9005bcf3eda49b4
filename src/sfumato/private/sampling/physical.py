"""A logical batch of units, cut into physical batches of one shape with masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sfumato.errors import UsageError
from sfumato.private.noise.source import NoiseSource
from sfumato.private.sampling.truncated_poisson import random_subset
from sfumato.types import Bools, Ints, Rows
from sfumato.validate import at_least

NO_UNIT = -1


@dataclass(frozen=True, eq=False)
class UnitRows:
    """The records of each unit.

    Args:
        rows: int64 [records], the records of unit 0, then those of unit 1, ...
        starts: int64 [units + 1]; the records of unit u are `rows[starts[u] : starts[u + 1]]`.
    """

    rows: Rows
    starts: Rows

    @classmethod
    def of(cls, unit_of: Ints, units: int) -> UnitRows:
        """From the unit [records] that each record belongs to, 0 .. units-1; a unit may have no records."""
        unit_of = np.asarray(unit_of)
        if len(unit_of) and not (unit_of.min() >= 0 and unit_of.max() < units):
            raise UsageError(f"Expected units between 0 and {units - 1}, got {unit_of.min()} to {unit_of.max()}.")
        starts = np.concatenate([[0], np.cumsum(np.bincount(unit_of, minlength=units))]).astype(np.int64)
        return cls(np.argsort(unit_of, kind="stable").astype(np.int64), starts)

    @property
    def sizes(self) -> Rows:
        """int64 [units]: how many records each unit has."""
        return np.diff(self.starts)


@dataclass(frozen=True, eq=False)
class PhysicalBatch:
    """Part of a logical batch, in the one shape that every step uses.

    Args:
        rows: int64 [size, records_per_unit]; places that the mask leaves out repeat a record of this batch, so that
            no record is read that was not drawn.
        mask: bool, same shape: which places count.
        units: int64 [size]: position of the unit in each line, -1 for padding.
    """

    rows: Rows
    mask: Bools
    units: Rows


def physical_batches(
    units_drawn: Rows,
    rows_of_unit: UnitRows,
    physical_batch_size: int,
    records_per_unit: int,
    source: NoiseSource,
) -> Iterator[PhysicalBatch]:
    """Cut a logical batch into physical ones; an empty logical batch gives none, and the step releases noise only.

    A unit with fewer records than `records_per_unit`, the public cap, is padded with masked places. Of a unit with
    more, a uniformly random subset of that size is taken, anew at each draw, and no other unit has a say in it. A
    unit without records contributes nothing, as if it had not been drawn.

    Args:
        units_drawn: int64 [k], distinct positions of units.
        rows_of_unit: the records of every unit.
        physical_batch_size: lines per physical batch, at least 1.
        records_per_unit: the cap, at least 1.
        source: where the choice of records comes from.
    """
    at_least("physical_batch_size", physical_batch_size, 1)
    at_least("records_per_unit", records_per_unit, 1)
    units_drawn = np.asarray(units_drawn, dtype=np.int64)
    if len(np.unique(units_drawn)) < len(units_drawn):
        raise UsageError(
            "Expected each unit at most once in a step, got one twice.",
            remedy="A unit that enters twice contributes twice the clip bound; pass what the sampler drew.",
        )
    present = units_drawn[rows_of_unit.sizes[units_drawn] > 0]
    for first in range(0, len(present), physical_batch_size):
        yield _batch(
            present[first : first + physical_batch_size], rows_of_unit, physical_batch_size, records_per_unit, source
        )


def _batch(units: Rows, rows_of_unit: UnitRows, size: int, cap: int, source: NoiseSource) -> PhysicalBatch:
    starts, counts = rows_of_unit.starts[units], rows_of_unit.sizes[units]
    mask = np.zeros((size, cap), dtype=bool)
    mask[: len(units)] = np.arange(cap) < counts[:, None]
    places = starts[:, None] + np.minimum(np.arange(cap), counts[:, None] - 1)
    for line in np.flatnonzero(counts > cap):
        places[line] = starts[line] + random_subset(int(counts[line]), cap, source.at(int(units[line])))
    rows = np.full((size, cap), rows_of_unit.rows[places[0, 0]])
    rows[: len(units)] = rows_of_unit.rows[places]
    named = np.full(size, NO_UNIT, dtype=np.int64)
    named[: len(units)] = units
    return PhysicalBatch(rows, mask, named)
