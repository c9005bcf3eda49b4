"""Records of another sequence, with some put in the place of its own or after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sfumato.canonical import content_hash
from sfumato.data.records import ArrayRecords, Records
from sfumato.types import Rows


@dataclass(frozen=True, eq=False)
class WithOthers(Records):
    """The records of a source, and others that were made.

    Args:
        source: records of the same shape.
        others: float32 [k, *shape].
        index: int64 [n]; i >= 0 for record i of the source, and -1 - i for `others[i]`.
    """

    source: Records
    others: ArrayRecords
    index: Rows

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def take(self, rows: Rows) -> torch.Tensor:
        index = self.index[np.asarray(rows)]
        taken = self.source.take(np.maximum(index, 0))
        made = np.flatnonzero(index < 0)
        if len(made):
            taken = taken.clone()
            taken[torch.from_numpy(made)] = self.others.take(-1 - index[made]).to(taken)
        return taken

    @property
    def fingerprint(self) -> str:
        return content_hash([self.source.fingerprint, self.others.fingerprint, self.index])


def replaced(source: Records, rows: Rows, made: np.ndarray) -> Records:
    """The records with those at `rows` (int64 [k]) replaced by `made` (float32 [k, *shape])."""
    index = np.arange(len(source), dtype=np.int64)
    index[rows] = -1 - np.arange(len(rows))
    return WithOthers(source, ArrayRecords(made), index)


def appended(source: Records, made: np.ndarray) -> Records:
    """The records, and `made` (float32 [k, *shape]) after them."""
    index = np.concatenate([np.arange(len(source)), -1 - np.arange(len(made))]).astype(np.int64)
    return WithOthers(source, ArrayRecords(made), index)
