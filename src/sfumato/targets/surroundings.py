"""What lies around a record: noisy views of it, where a walk to the boundary may start and go, and where it heads.

All of it is named by the record, so that every model is asked the same and nobody sees how records were put together.
"""

from __future__ import annotations

import numpy as np
import torch

from sfumato.data.moments import moments
from sfumato.data.population import Population
from sfumato.seeding import stream
from sfumato.targets.boundary import Box, Directions
from sfumato.targets.queries import NOISY, QuerySet
from sfumato.training.augment import apply_variant, query_variants
from sfumato.training.normals import normals
from sfumato.types import Rows

ALIKE = 0  # seed of all streams here: the same for targets, references and records
STARTS = 8  # of a walk: records of other classes and uniform points in turn


def box_of(population: Population) -> Box:
    """The range of the population's values, measured in their standard deviation (1 where it is 0).

    Each column of a table by itself; all pixels together.
    """
    found = moments(population.records)
    unit = np.where(found.deviation > 0, found.deviation, 1.0)
    low, high, unit = (torch.from_numpy(np.array(part)).float() for part in (found.low, found.high, unit))
    return Box(low, high, unit)


def view(queries: QuerySet, variant: int, x: torch.Tensor, rows: Rows, box: Box) -> torch.Tensor:
    """One variant of each record: [b, *shape] to [b, *shape].

    Args:
        queries: says which variants there are.
        variant: its number.
        x: the records.
        rows: int64 [b], their positions in the population.
        box: noisy variants stay in it.

    Raises:
        NotApplicable: if the records are no images, or too small, and the variant mirrors or shifts.
    """
    if queries.augmentation not in NOISY:
        return apply_variant(x, query_variants(queries.augmentation)[variant])
    drawn = [stream(ALIKE, "noisy view", int(row), variant).standard_normal(x.shape[1:]) for row in rows]
    noise = torch.from_numpy(np.stack(drawn)).to(x)
    return (x + queries.scale * box.unit * noise).clamp(box.low, box.high)


def starts(population: Population, rows: Rows, box: Box) -> torch.Tensor:
    """float32 [b, 8, *shape]: points that probably have another label than each record.

    In turn a record of another class (where there is one) and a uniform point in the box.
    """
    return torch.stack([_starts(population, int(row), box) for row in rows])


def _starts(population: Population, row: int, box: Box) -> torch.Tensor:
    rng, labels = stream(ALIKE, "starts", row), population.label_array
    points = box.low + torch.from_numpy(rng.random((STARTS, *box.low.shape))).float() * (box.high - box.low)
    others = rng.permutation(len(labels))
    others = others[labels[others] != labels[row]][: STARTS // 2]
    points[2 * np.arange(len(others))] = population.tensor(others)
    return points


def directions(rows: Rows, variant: int, numbers: int) -> Directions:
    """Standard normal directions [k, numbers] for walks from a variant of the records at `rows`."""

    def draw(record: int, iteration: int, count: int) -> torch.Tensor:
        names = ("walk", int(rows[record]), variant, iteration)
        return normals(ALIKE, *names, size=count * numbers, dtype=torch.float32).reshape(count, numbers)

    return draw
