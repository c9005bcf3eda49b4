"""From drawn units to the tensors of a physical batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from sfumato.errors import UsageError
from sfumato.private.plan import Plan
from sfumato.types import Rows
from sfumato.validate import at_least

Data = Sequence[torch.Tensor] | Callable[[torch.Tensor], Sequence[torch.Tensor]]
LARGEST = 4096


def gathered(data: Data, rows: torch.Tensor) -> list[torch.Tensor]:
    """The records at these positions: tensors with rows first."""
    if callable(data):
        return list(data(rows))
    return [tensor.index_select(0, rows.to(tensor.device)) for tensor in data]


def rows_by_unit(data: Data, unit_of: Rows | None) -> list[Rows]:
    """The positions of each unit's records; one unit per record where no units are given."""
    records = len(data) if callable(data) else len(data[0])  # type: ignore[arg-type] - a function needs a length
    if not callable(data) and len({len(tensor) for tensor in data}) != 1:
        raise UsageError(
            f"Expected tensors with one length, got {[len(tensor) for tensor in data]}.", remedy="Records come first."
        )
    if unit_of is None:
        return list(np.arange(records, dtype=np.int64)[:, None])
    units = np.asarray(unit_of)
    if units.shape != (records,):
        raise UsageError(f"Expected the unit of each of {records} records, got shape {units.shape}.")
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order])) + 1
    return np.split(order.astype(np.int64), starts)


class PhysicalSize(NamedTuple):
    """How many units are computed at once: `asked`, or enough for nearly every draw."""

    asked: int | None

    def rows(self, plan: Plan) -> int:
        """Units per physical batch. Depends on public numbers only."""
        if self.asked is not None:
            at_least("physical_batch_size", self.asked, 1)
            return self.asked
        mean = plan.expected_batch_size
        return max(1, min(LARGEST, math.ceil(mean + 3 * math.sqrt(mean))))
