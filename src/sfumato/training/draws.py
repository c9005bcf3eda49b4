"""The random numbers of a training, one named stream per model: the same whoever executes it.

A `Draws` stands for a stack of M models (M = 1 when trained alone). Every method returns one row per model, drawn from
that model's own stream, so model m sees the same numbers alone, stacked, or in another process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from sfumato.seeding import Name, stream
from sfumato.training.normals import normals


@dataclass(frozen=True)
class Draws:
    """Named streams of M models.

    Args:
        seeds: one per model.
        path: the names so far, e.g. ("training", "augment", epoch, step).
    """

    seeds: tuple[int, ...]
    path: tuple[Name, ...] = ()

    @property
    def models(self) -> int:
        """M, the number of models in the stack."""
        return len(self.seeds)

    def at(self, *names: Name) -> Draws:
        """The streams one level further down."""
        return Draws(self.seeds, (*self.path, *names))

    def permutation(self, name: Name, length: int) -> torch.Tensor:
        """int64 [M, length]: a random order per model."""
        return self._rows(name, lambda rng: rng.permutation(length))

    def uniform(self, name: Name, *shape: int) -> torch.Tensor:
        """float64 [M, *shape] in [0, 1)."""
        return self._rows(name, lambda rng: rng.random(shape))

    def normal(self, name: Name, *shape: int) -> torch.Tensor:
        """float64 [M, *shape], standard normal."""
        return self._rows(name, lambda rng: rng.standard_normal(shape))

    def beta(self, name: Name, a: float, b: float, *shape: int) -> torch.Tensor:
        """float64 [M, *shape], Beta(a, b)."""
        return self._rows(name, lambda rng: rng.beta(a, b, shape))

    def integers(self, name: Name, high: int, *shape: int) -> torch.Tensor:
        """int64 [M, *shape] in [0, high)."""
        return self._rows(name, lambda rng: rng.integers(high, size=shape))

    def gaussian(self, name: Name, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """[M, *shape], standard normal, of which much is needed (see `normals`; many times as fast as `normal`).

        The first rows of a model do not depend on how many rows are drawn.
        """
        size = math.prod(shape)
        rows = [normals(seed, *self.path, name, size=size, dtype=dtype).reshape(shape) for seed in self.seeds]
        return torch.stack(rows) if len(rows) > 1 else rows[0][None]

    def keep(self, name: Name, rate: float, *shape: int) -> torch.Tensor:
        """bool [M, *shape], True with probability `rate` (float32 draws: masks are large and need no more)."""
        return self._rows(name, lambda rng: rng.random(shape, dtype=np.float32) < rate)

    def _rows(self, name: Name, draw) -> torch.Tensor:
        return torch.from_numpy(np.stack([draw(stream(seed, *self.path, name)) for seed in self.seeds]))


def fold(per_model: torch.Tensor) -> torch.Tensor:
    """[M, batch, ...] to [M * batch, ...]: the layout in which a stack of models sees its batches."""
    return per_model.reshape(-1, *per_model.shape[2:])


def fold_indices(per_model: torch.Tensor) -> torch.Tensor:
    """int64 [M, batch] positions within each model's batch to [M * batch] positions in the folded batch."""
    models, batch = per_model.shape
    return (per_model + torch.arange(models)[:, None] * batch).reshape(-1)
