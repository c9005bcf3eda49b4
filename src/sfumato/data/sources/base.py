"""The contract of a data source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.types import Rows


@dataclass(frozen=True)
class Source(ABC):
    """Where records come from. Its fields say completely which ones, so that a source has a content hash.

    Class attributes:
        name: what a user types.
        kind: "table" or "image": what it usually holds (`Population.kind` says what was found).
        summary: one sentence for lists.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str] = "table"
    summary: ClassVar[str] = ""

    @abstractmethod
    def load(self) -> Population:
        """Read the records.

        Two calls on the same files give populations with the same fingerprint. Values are not standardised: that
        reads the records of a training set, so training does it. Whatever is fitted on the records while reading (a
        category list, a mean) stands in `Population.events`; what was left out stands in `Population.notes`.

        Raises:
            DataError: if the data are absent, damaged or unfit; the message names the file, the line and the column.
        """


def names(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """A tuple of column names from one name or several."""
    return (value,) if isinstance(value, str) else tuple(value)


def chosen_rows(n: int, records: int | None, seed: int | None) -> Rows:
    """int64 positions, ascending: all of n, or `records` of them: at random under `seed`, or the first for None."""
    if records is None or records >= n:
        return np.arange(n)
    if records < 2:
        raise UsageError(f"Expected `records` of at least 2, got {records}.", remedy="Leave it out for all records.")
    return np.arange(records) if seed is None else np.sort(stream(seed, "records").choice(n, records, replace=False))
