"""What the network sees of a population: its records, or fixed features of them, computed once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sfumato.atomic import replacing
from sfumato.canonical import content_hash
from sfumato.data.download import cache_folder
from sfumato.data.population import Population
from sfumato.models.features.base import Features, stored_and_rest
from sfumato.types import Floats, Rows

CHUNK = 960  # records at once
WORTH_KEEPING = 2000  # records below which features are computed anew: that takes no longer than a few seconds


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a network for each record of a population.

    Args:
        population: n records.
        features: applied to each record; None for the records themselves.
    """

    population: Population
    features: Features | None = None

    def __len__(self) -> int:
        return len(self.population)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return input_shape(self.features, self.population.records.shape)

    def take(self, rows: Rows) -> torch.Tensor:
        """float32 [k, *shape]: the inputs at `rows`."""
        x = self._stored(rows)
        _, rest = stored_and_rest(self.features) if self.features else (None, None)
        return x if rest is None else rest(x)

    def batches(self, rows: Rows) -> Iterator[torch.Tensor]:
        """The inputs at `rows` in order, in parts of moderate size."""
        for start in range(0, len(rows), CHUNK):
            yield self.take(rows[start : start + CHUNK])

    def all(self, layer: nn.Module | None = None) -> torch.Tensor:
        """float32 [n, ...]: all inputs, through a fixed layer if one is given."""
        with torch.no_grad():
            first = self._through(layer, np.arange(1))
            out = first.new_empty(len(self), *first.shape[1:])
            for start in range(0, len(self), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(self)))
                out[start : start + len(rows)] = self._through(layer, rows)
        return out

    def _through(self, layer: nn.Module | None, rows: Rows) -> torch.Tensor:
        x = self.take(rows)
        return x if layer is None else layer(x)

    def _stored(self, rows: Rows) -> torch.Tensor:
        kept = self._kept
        if kept is None:
            return self.population.tensor(rows)
        return torch.from_numpy(np.ascontiguousarray(kept[rows])).float()

    @cached_property
    def _kept(self) -> np.ndarray | None:
        costly, _ = stored_and_rest(self.features) if self.features else (None, None)
        return None if costly is None else kept_features(self.population, costly)


def input_shape(features: Features | None, record: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a network sees of a record."""
    return record if features is None else features.shape(record)


def kept_features(population: Population, features: Features) -> Floats:
    """[n, *features]: the features of all records, in the type that holds them.

    They are looked for in the user's cache folder under the content of the records and of the map, and written there
    (from 2,000 records on). They are as personal as the records are, so only the owner may read the file.
    """
    shape, kind = (len(population), *features.shape(population.records.shape)), features.kept_as
    if len(population) < WORTH_KEEPING:
        out = np.empty(shape, kind)
        _fill(out, population, features)
        return out
    path = features_file(population, features)
    found = _opened(path)
    if found is None or found.shape != shape or found.dtype != kind:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, private=True) as temporary:
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=kind, shape=shape)
            _fill(out, population, features)
            out.flush()
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def features_file(population: Population, features: Features) -> Path:
    """Where stored features of a population are: named by the content of its records and by the map."""
    key = content_hash({"records": population.records.fingerprint, "features": features})
    return cache_folder("features") / f"{key}.npy"


def _opened(path: Path) -> np.ndarray | None:
    """The stored array; None for no file, and for one that is damaged or that another user could have written."""
    try:
        mode = path.stat()
        if mode.st_uid != os.getuid() or mode.st_mode & 0o022:
            return None
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _fill(out: np.ndarray, population: Population, features: Features) -> None:
    for start in range(0, len(out), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(out)))
        out[rows[0] : rows[-1] + 1] = features(population.tensor(rows)).numpy()


@dataclass(frozen=True, eq=False)
class KnownFeatures:
    """The features of any records; for those of a population, the stored ones.

    Args:
        inputs: of the population whose records will mostly be asked for.
    """

    inputs: Inputs

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [b, *record] to float32 [b, *features]. Records are known by their content."""
        features = self.inputs.features
        assert features is not None
        rows = [self._places.get(_digest(record)) for record in x]
        if all(row is not None for row in rows):
            return self.inputs.take(np.array(rows, dtype=np.int64))
        return features(x)

    @cached_property
    def _places(self) -> dict[bytes, int]:
        """The row of each record of the population, by its content."""
        places: dict[bytes, int] = {}
        for start in range(0, len(self.inputs), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(self.inputs)))
            x = self.inputs.population.tensor(rows)
            places.update({_digest(record): int(row) for record, row in zip(x, rows, strict=True)})
        return places


def _digest(record: torch.Tensor) -> bytes:
    return blake2b(record.detach().cpu().contiguous().float().numpy().tobytes(), digest_size=16).digest()
