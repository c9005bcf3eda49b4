"""Canaries that do not look like the other records: out of distribution, and blank; and near copies of records."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.data.canary_kinds.pictures import foreign_pictures
from sfumato.data.moments import moments
from sfumato.data.records import Records
from sfumato.errors import UsageError
from sfumato.types import Floats, Rows

NEARNESS = 0.05  # standard deviations of the noise that makes a near copy; 0.018 of the pixel range of Fashion-MNIST
SPREAD = 2.0  # blank rows lie within so many standard deviations of the mean


class Made(NamedTuple):
    """Values of canaries.

    Attributes:
        values: float32 [k, *shape].
        source: where they come from, for the notes of the population.
    """

    values: Floats
    source: str


def out_of_distribution(records: Records, name: str, count: int, rng: np.random.Generator) -> Made:
    """Records that cannot come from where the others come from.

    Images: pictures of another bundled set, see `foreign_pictures`. Rows: each column is drawn from a record of its
    own, so that every column keeps its distribution and all that binds the columns together is lost.

    Args:
        records: of the population.
        name: of the population.
        count: how many.
        rng: of this kind of canaries.

    Raises:
        UsageError: if the records are neither rows nor images.
    """
    shape = records.shape
    if len(shape) == 3:
        found = foreign_pictures(name, shape, count, rng)
        return Made(found.images, found.source)
    _refuse_other_shapes(shape, "out-of-distribution")
    drawn = rng.integers(len(records), size=(count, *shape))
    values = np.stack([records.take(rows)[np.arange(len(rows)), np.arange(len(rows))].numpy() for rows in drawn])
    return Made(values, "rows with each column from another record")


def blank(records: Records, count: int, rng: np.random.Generator) -> Made:
    """Records without content.

    Images: one colour, uniform in [0, 1] for each channel. Rows: every column equally many of its standard deviations
    from its mean, a number drawn uniformly from -2 to 2.

    Raises:
        UsageError: if the records are neither rows nor images.
    """
    shape = records.shape
    if len(shape) == 3:
        colours = rng.random((count, shape[0], 1, 1))
        return Made(np.broadcast_to(colours, (count, *shape)).astype(np.float32), "images of one colour")
    _refuse_other_shapes(shape, "blank")
    found = moments(records)
    levels = rng.uniform(-SPREAD, SPREAD, (count, 1))
    return Made((found.mean + levels * found.deviation).astype(np.float32), "rows of one level")


def near_copies(records: Records, rows: Rows, rng: np.random.Generator) -> Floats:
    """float32 [k, *shape]: the records at `rows` with Gaussian noise of 0.05 standard deviations of the values.

    The deviation is that of the column, or of all pixels; values stay in the range that they have in the population,
    and the smallest and largest of it are kept where noise would lead out of it.
    """
    found = moments(records)
    noise = NEARNESS * found.deviation * rng.standard_normal((len(rows), *records.shape))
    return np.clip(records.take(rows).double().numpy() + noise, found.low, found.high).astype(np.float32)


def _refuse_other_shapes(shape: tuple[int, ...], kind: str) -> None:
    if len(shape) != 1:
        raise UsageError(
            f"Expected rows or images [channels, height, width] for {kind} canaries, got records of shape {shape}.",
            remedy="Use other kinds of canaries.",
        )
