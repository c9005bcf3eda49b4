"""Fixed features of records that no training made, for a second opinion: how a record looks, not what a network says.

Pictures: blurred, shrunk to at most 16 pixels a side, freed of brightness and contrast. So speckles that please a
network count for little, and so does a reconstruction that is merely too bright. Tables: columns with mean 0 and
standard deviation 1 in the population. Both are ours; they are no published measure of likeness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from sfumato.types import Floats

SIDE = 16
FLAT = 1e-4  # norm below which a picture has no contrast


@dataclass(frozen=True, eq=False)
class Looks:
    """The map from records to their looks.

    Args:
        shape: of one record.
        mean: float [features], for tables; else empty.
        scale: float [features], likewise.
    """

    shape: tuple[int, ...]
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, records: Floats) -> Looks:
        """For records [n, *shape] of a population."""
        shape = records.shape[1:]
        if len(shape) == 3:
            return cls(shape, np.empty(0), np.empty(0))
        flat = records.reshape(len(records), -1).astype(np.float64)
        deviation = flat.std(axis=0)
        return cls(shape, flat.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, records: Floats) -> Floats:
        """float32 [n, d]: the looks of records [n, *shape]."""
        if len(self.shape) == 3:
            return _shrunk(records.reshape(-1, *self.shape))
        flat = records.reshape(len(records), -1)
        return ((flat - self.mean) / self.scale).astype(np.float32)

    @property
    def described(self) -> str:
        """In words."""
        if len(self.shape) == 3:
            return f"pictures blurred, shrunk to at most {SIDE} pixels a side, freed of brightness and contrast"
        return "columns with mean 0 and standard deviation 1"


def _shrunk(pictures: Floats) -> Floats:
    """float32 [n, d] of pictures [n, channels, height, width]: blur, means over windows, mean 0, norm 1."""
    height, width = pictures.shape[2:]
    window = -(-max(height, width) // SIDE)
    blurred = gaussian_filter(pictures.astype(np.float32), (0, 0, window / 2, window / 2), mode="nearest")
    padded = np.pad(blurred, ((0, 0), (0, 0), (0, -height % window), (0, -width % window)), mode="edge")
    rows, columns = padded.shape[2] // window, padded.shape[3] // window
    small = padded.reshape(*padded.shape[:2], rows, window, columns, window).mean(axis=(3, 5))
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(norm > FLAT, flat / np.maximum(norm, FLAT), 0.0).astype(np.float32)
