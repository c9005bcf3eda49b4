"""Location-30: where users of a social network have been, from its CSV file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.data.formats.files import existing_file, read_bytes
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source
from sfumato.errors import DataError
from sfumato.types import Ints

CLASSES = 30
PLACES = 446
MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class Location30(Source):
    """5,010 users, 446 kinds of places that each has been to or not, in 30 clusters of users (R. Shokri et al., 2017).

    The classes were made by clustering the users, so they are no fact about anyone. Every row is one user; the unit of
    privacy is the example.

    Args:
        path: CSV without a header, plain or gzip: the cluster (1 to 30, in quotes) and 446 columns of 0 or 1.
    """

    name: ClassVar[str] = "location-30"
    summary: ClassVar[str] = "5,010 users, 446 places visited or not, 30 clusters; the CSV of Shokri et al. 2017."
    path: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))

    def load(self) -> Population:
        path = existing_file(self.path, what="Location-30 as CSV, plain or gzip")
        rows = _rows(read_bytes(path, limit=MAX_BYTES), path.name)
        return Population(
            ArrayRecords(rows[:, 1:].astype(np.float32)),
            Unit("example"),
            labels=rows[:, 0].astype(np.int64) - 1,
            class_names=tuple(f"cluster-{i + 1:02d}" for i in range(CLASSES)),
            name="location-30",
        )


def _rows(data: bytes, where: str) -> Ints:
    """uint8 [n, 447]: the cluster from 1, and the places."""
    lines = [line.rstrip(b"\r") for line in data.split(b"\n")]
    found = [_row(line, f"{where}, line {number}") for number, line in enumerate(lines, 1) if line]
    if len(found) < 2:
        raise DataError(f"Expected rows in {where}, got {len(found)}.", remedy="Fetch the file again.")
    return np.stack(found)


def _row(line: bytes, place: str) -> Ints:
    first, *cells = line.split(b",")
    label = first.strip(b'"')
    if len(cells) != PLACES or set(cells) - {b"0", b"1"}:
        raise DataError(
            f"Expected a cluster and {PLACES} cells of 0 or 1 at {place}, got {len(cells)} cells.",
            remedy="This is not Location-30, or it is cut off; read your own tables as csv.",
        )
    if not (label.isdigit() and len(label) <= 2 and 1 <= int(label) <= CLASSES):
        raise DataError(
            f"Expected a cluster from 1 to {CLASSES} at {place}, got {label[:20]!r}.",
            remedy="This is not Location-30; read your own tables as csv.",
        )
    return np.array([int(label), *(cell == b"1" for cell in cells)], dtype=np.uint8)
