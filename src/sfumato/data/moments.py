"""Mean, spread and range of the values of records: what a change of a record is measured by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.data.records import Records
from sfumato.types import Floats

CHUNK = 1024


class Moments(NamedTuple):
    """Of the values of records, float64 in the shape of one record: per column of a table, the same for all pixels.

    Attributes:
        mean: of the values.
        deviation: standard deviation; 0 where they are all equal.
        low: smallest.
        high: largest.
    """

    mean: Floats
    deviation: Floats
    low: Floats
    high: Floats


def moments(records: Records) -> Moments:
    """Over all records: by column for rows [features], over all pixels and channels for anything else."""
    by_column = len(records.shape) == 1
    parts = [_part(records, start, by_column) for start in range(0, len(records), CHUNK)]
    size = sum(part.size for part in parts)
    mean = sum(part.total for part in parts) / size
    squares = sum(part.squares + part.size * (part.total / part.size - mean) ** 2 for part in parts)
    found = (
        mean,
        np.sqrt(squares / size),
        np.minimum.reduce([p.low for p in parts]),
        np.maximum.reduce([p.high for p in parts]),
    )
    return Moments(*(np.broadcast_to(np.asarray(value, dtype=np.float64), records.shape) for value in found))


class _Part(NamedTuple):
    size: int
    total: Floats
    squares: Floats  # about the part's own mean, so that nothing cancels
    low: Floats
    high: Floats


def _part(records: Records, start: int, by_column: bool) -> _Part:
    values = records.take(np.arange(start, min(start + CHUNK, len(records)))).double().numpy()
    values = values if by_column else values.reshape(-1)
    total = values.sum(axis=0)
    squares = ((values - total / len(values)) ** 2).sum(axis=0)
    return _Part(len(values), total, squares, values.min(axis=0), values.max(axis=0))
