"""The only door from a training stage to private records: each read writes an event into the history."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sfumato.accounting.history import Event, History
from sfumato.data.population import Population
from sfumato.types import Ints, Rows


class PrivateView:
    """The records of one training set, readable only with a stated purpose.

    A view is the one mutable object here: it is a notebook of what was read during one training.

    Args:
        population: all records.
        rows: int64 [k], the records of this training set.
    """

    def __init__(self, population: Population, rows: Rows) -> None:
        self.population = population
        self.rows = np.asarray(rows, dtype=np.int64)
        self.history = History(population.events)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, stage: str, purpose: str, *, mechanism: dict[str, Any] | None = None) -> torch.Tensor:
        """float32 [k, *shape]: all records of the training set; the read is recorded."""
        self.note(stage, purpose, mechanism=mechanism)
        return self.population.tensor(self.rows)

    def note(self, stage: str, purpose: str, *, mechanism: dict[str, Any] | None = None) -> None:
        """Record a read that happened through tensors handed out before (another epoch, a validation score)."""
        self.history = self.history.then(Event(stage, purpose, len(self.rows), mechanism))

    @property
    def labels(self) -> Ints:
        """int64 [k], in the order of `rows`. Handed out with records only; reading them is part of the same event."""
        return self.population.label_array[self.rows]

    @property
    def units(self) -> Rows:
        """int64 [k]: unit positions in the order of `rows`."""
        return self.population.unit_of[self.rows]
