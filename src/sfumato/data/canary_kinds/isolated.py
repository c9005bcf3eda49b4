"""Isolated canaries: each has a feature that is 0 in every other record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sfumato.canonical import content_hash
from sfumato.data.records import Records
from sfumato.errors import UsageError
from sfumato.types import Ints, Rows

PIXELS = 4  # one pixel in so many may be isolated; more would take away what the image shows


def isolated_records(records: Records, feature: Ints, count: int) -> Records:
    """The records, with `count` features of which each is 1 in the records of one canary only.

    Args:
        records: n rows, or images [channels, height, width].
        feature: int64 [n], 0 .. count-1, the feature of each record; -1 for none.
        count: of the canaries.

    Raises:
        UsageError: if the records are neither rows nor images, or have too few pixels.
    """
    shape = records.shape
    if len(shape) == 1:
        return AppendedColumns(records, feature, count)
    if len(shape) == 3:
        return IsolatedPixels(records, feature, corner_pixels(shape[1], shape[2], count))
    raise UsageError(
        f"Expected rows or images [channels, height, width] for isolated canaries, got records of shape {shape}.",
        remedy="Use other kinds of canaries.",
    )


def corner_pixels(height: int, width: int, count: int) -> Ints:
    """int64 [count], positions in a flattened image: the pixels nearest to any corner, row by row where equally near.

    Raises:
        UsageError: if that is more than a quarter of the image.
    """
    if count > height * width // PIXELS:
        raise UsageError(
            f"Expected at most {height * width // PIXELS} isolated canaries for images of {height}x{width}, got "
            f"{count}: each of them takes a pixel from all images.",
            remedy="Lower their number.",
        )
    down, across = np.arange(height), np.arange(width)
    distance = np.minimum(down, down[::-1])[:, None] + np.minimum(across, across[::-1])
    return np.argsort(distance.ravel(), kind="stable")[:count]


@dataclass(frozen=True, eq=False)
class AppendedColumns(Records):
    """Rows with columns after their own: 1 in the column that a record has to itself, else 0.

    Args:
        source: records [features].
        feature: int64 [n], the column of each record, -1 for none.
        columns: how many there are.
    """

    source: Records
    feature: Ints
    columns: int

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.source.shape[0] + self.columns,)

    def take(self, rows: Rows) -> torch.Tensor:
        ones = self.feature[rows][:, None] == np.arange(self.columns)
        return torch.cat([self.source.take(rows), torch.from_numpy(ones).float()], dim=1)

    @property
    def fingerprint(self) -> str:
        return content_hash([self.source.fingerprint, self.feature, self.columns])


@dataclass(frozen=True, eq=False)
class IsolatedPixels(Records):
    """Images with some pixels 0, but for the one that a record has to itself, which is 1, in all channels.

    Args:
        source: records [channels, height, width], pixels in [0, 1].
        feature: int64 [n], index into `pixels` for each record, -1 for none.
        pixels: int64 [k], positions in a flattened image.
    """

    source: Records
    feature: Ints
    pixels: Ints

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def take(self, rows: Rows) -> torch.Tensor:
        images = self.source.take(rows).clone()
        ones = self.feature[rows][:, None] == np.arange(len(self.pixels))
        images.flatten(2)[:, :, self.pixels] = torch.from_numpy(ones).to(images)[:, None]
        return images

    @property
    def fingerprint(self) -> str:
        return content_hash([self.source.fingerprint, self.feature, self.pixels])
