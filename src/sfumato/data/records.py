"""Records: anything that can hand out the records at given positions as one float tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sfumato.canonical import array_digest
from sfumato.errors import DataError
from sfumato.types import Bools, Rows


class Records(ABC):
    """A sequence of records of one shape."""

    @abstractmethod
    def __len__(self) -> int:
        """How many records there are."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one record: (features,) for tables, (channels, height, width) for images."""

    @abstractmethod
    def take(self, rows: Rows) -> torch.Tensor:
        """The records at positions `rows`, in that order.

        Args:
            rows: int64 [k], each in [0, len(self)).

        Returns:
            float32 [k, *shape].
        """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of the content, as hexadecimal text; equal content gives equal fingerprints."""


@dataclass(frozen=True, eq=False)
class ArrayRecords(Records):
    """Records held in one NumPy array.

    Args:
        array: [n, *shape]; floats are used as they are, uint8 is taken as pixels and divided by 255.

    Raises:
        DataError: if a value is not finite, or there is no record.
    """

    array: np.ndarray

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        object.__setattr__(self, "array", array)
        if array.ndim < 2 or array.size == 0:
            raise DataError(
                f"Expected records as an array [n, ...] with at least one record, got shape {array.shape}.",
                remedy="Pass one row per record; a single feature is [n, 1].",
            )
        if array.dtype.kind not in "fiub":
            raise DataError(
                f"Expected numeric records, got dtype {array.dtype}.",
                remedy="Encode text columns as numbers first.",
            )
        if array.dtype.kind == "f" and not (fits := _fits_float32(array)).all():
            row = int((~fits).argmax())
            raise DataError(
                f"Expected finite values, got NaN, infinity or a value beyond float32 in record {row}.",
                remedy="Remove or impute it, and say how (`missing=` where data come from a table).",
            )

    def __len__(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape[1:])

    def take(self, rows: Rows) -> torch.Tensor:
        picked = torch.from_numpy(np.ascontiguousarray(self.array[rows]))
        return picked.float() / 255 if self.array.dtype == np.uint8 else picked.float()

    @cached_property
    def _digest(self) -> str:
        return array_digest(self.array)

    @property
    def fingerprint(self) -> str:
        return self._digest


def _fits_float32(array: np.ndarray) -> Bools:
    """bool [n]: records whose values are all finite, also as float32, which is what `take` hands out."""
    fits = np.abs(array.reshape(len(array), -1)) <= np.finfo(np.float32).max
    return np.all(fits, axis=1)
