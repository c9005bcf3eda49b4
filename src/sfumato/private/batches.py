"""From drawn units to the tensors of a physical batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from sfumato.errors import UsageError
from sfumato.private.plan import Plan
from sfumato.private.sampling.physical import PhysicalBatch, UnitRows
from sfumato.types import Rows
from sfumato.validate import at_least

Data = Sequence[torch.Tensor] | Callable[[torch.Tensor], Sequence[torch.Tensor]]
LARGEST = 4096
FEWEST = 8
KEPT_BYTES = 1 << 28


def gathered(data: Data, rows: torch.Tensor) -> list[torch.Tensor]:
    """The records at these positions: tensors with rows first."""
    if callable(data):
        return list(data(rows))
    return [tensor.index_select(0, rows.to(tensor.device)) for tensor in data]


def rows_by_unit(data: Data, unit_of: Rows | None) -> UnitRows:
    """The positions of each unit's records; one unit per record where no units are given."""
    records = len(data) if callable(data) else len(data[0])  # type: ignore[arg-type] - a function needs a length
    if not callable(data) and len({len(tensor) for tensor in data}) != 1:
        raise UsageError(
            f"Expected tensors with one length, got {[len(tensor) for tensor in data]}.", remedy="Records come first."
        )
    units = np.arange(records, dtype=np.int64) if unit_of is None else np.asarray(unit_of)
    if units.shape != (records,):
        raise UsageError(f"Expected the unit of each of {records} records, got shape {units.shape}.")
    names, positions = np.unique(units, return_inverse=True)
    return UnitRows.of(positions.reshape(-1).astype(np.int64), len(names))


def trimmed(batch: PhysicalBatch) -> PhysicalBatch:
    """Without the lines that are padding: what they would cost is saved where nothing needs one fixed shape."""
    keep = int((batch.units >= 0).sum())
    return PhysicalBatch(batch.rows[:keep], batch.mask[:keep], batch.units[:keep])


class PhysicalSize(NamedTuple):
    """How many units are computed at once: `asked`, or enough for nearly every draw; `fixed`: padded to one shape."""

    asked: int | None = None
    fixed: bool = False

    def rows(self, plan: Plan) -> int:
        """Units per physical batch. Depends on public numbers only."""
        if self.asked is not None:
            at_least("physical_batch_size", self.asked, 1)
            return self.asked
        mean = plan.expected_batch_size
        return max(1, min(LARGEST, math.ceil(mean + 3 * math.sqrt(mean))))

    def fitting(self, units: int, bytes_kept: int) -> int:
        """Units per physical batch of `units`, so that what is kept of each unit until the end fits into `KEPT_BYTES`.

        What is asked for stays as it is. Otherwise equal parts are made; fewer units at once cost little, since what
        they keep stays nearer to the processor.
        """
        most = max(FEWEST, KEPT_BYTES // max(1, bytes_kept))
        return units if self.asked is not None or units <= most else math.ceil(units / math.ceil(units / most))
