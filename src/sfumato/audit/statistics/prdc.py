"""How real and how varied samples are: precision and recall, density and coverage, by k nearest neighbours.

A real sample's ball reaches to its k-th nearest other real sample; a fake one's likewise among the fakes.

- precision: share of fakes inside the ball of some real sample (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1-2).
- recall: share of real samples inside the ball of some fake.
- density: in how many real balls a fake lies, over k; can exceed 1 (Naeem et al. 2020, arXiv 2002.09797, eq. 3).
- coverage: share of real samples with a fake inside their own ball (likewise, eq. 4).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.audit.statistics.nearest import neighbour_radii, squared_distances
from sfumato.types import Floats

NEIGHBOURS = 3
CHUNK = 1024  # real samples at a time


class PRDC(NamedTuple):
    """The four numbers; `recall` is NaN where there are too few fakes for it."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(
    real: Floats,
    fake: Floats,
    neighbours: int = NEIGHBOURS,
    radii: Floats | None = None,
) -> PRDC:
    """Precision, recall, density and coverage of fake samples.

    Args:
        real: features [n, d], n above `neighbours`.
        fake: features [m, d], m at least 1.
        neighbours: k.
        radii: `neighbour_radii(real, neighbours)`, where they are known already.
    """
    radii = neighbour_radii(real, neighbours) if radii is None else radii
    of_fakes = neighbour_radii(fake, neighbours) if len(fake) > neighbours else np.full(len(fake), np.nan)
    balls = np.zeros(len(fake))
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for first in range(0, len(real), CHUNK):
        rows = slice(first, first + CHUNK)
        distances = squared_distances(real[rows], fake)
        inside = distances <= radii[rows, None]
        balls += inside.sum(axis=0)
        covered[rows] = inside.any(axis=1)
        recalled[rows] = (distances <= of_fakes[None]).any(axis=1)
    recall = float(recalled.mean()) if len(fake) > neighbours else float("nan")
    return PRDC(float((balls > 0).mean()), recall, float(balls.mean() / neighbours), float(covered.mean()))
