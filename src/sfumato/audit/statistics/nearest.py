"""Squared distances to the nearest of many points, and fair comparisons of two sets of different size.

The nearest of many points is nearer than the nearest of few. So two sets are compared at equal counts: at random
subsets as large as the smaller set. What comes out on average over all such subsets has a closed form, so that nothing
is drawn here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from sfumato.errors import UsageError
from sfumato.types import Floats, Ints

ENTRIES = 2**22  # of a distance matrix at a time: 32 MiB


class Nearest(NamedTuple):
    """Squared L2 distance [n] to the nearest point, and which one that is [n]; the first of equally near ones."""

    distance: Floats
    which: Ints


def squared_distances(x: Floats, y: Floats) -> Floats:
    """float64 [n, m]: squared L2 distances between the rows of x [n, d] and y [m, d]; never below 0."""
    left, right = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise UsageError(
            f"Expected two arrays [n, d] and [m, d], got {left.shape} and {right.shape}.",
            remedy="Flatten each record to one row.",
        )
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None]
    return np.maximum(squares - 2 * left @ right.T, 0.0)


def nearest(x: Floats, y: Floats, chunk: int | None = None) -> Nearest:
    """For each row of x [n, d] the nearest row of y [m, d], m at least 1."""
    _some("points to be near to", len(y))
    chunk = chunk or max(1, ENTRIES // len(y))
    distance, which = np.empty(len(x)), np.empty(len(x), np.int64)
    for first in range(0, len(x), chunk):
        part = squared_distances(x[first : first + chunk], y)
        which[first : first + chunk] = part.argmin(axis=1)
        distance[first : first + chunk] = part.min(axis=1)
    return Nearest(distance, which)


def neighbour_radii(x: Floats, neighbours: int, chunk: int | None = None) -> Floats:
    """float64 [n]: squared distance of each row of x [n, d] to its `neighbours`-th nearest other row.

    Raises:
        UsageError: with `neighbours` other rows or fewer.
    """
    if not 1 <= neighbours < len(x):
        raise UsageError(
            f"Expected more points than neighbours, and a neighbour at least, got {len(x)} and {neighbours}.",
            remedy="Ask for fewer neighbours.",
        )
    chunk, radii = chunk or max(1, ENTRIES // len(x)), np.empty(len(x))
    for first in range(0, len(x), chunk):
        part = squared_distances(x[first : first + chunk], x)
        part[np.arange(len(part)), first + np.arange(len(part))] = np.inf
        radii[first : first + chunk] = np.partition(part, neighbours - 1, axis=1)[:, neighbours - 1]
    return radii


def nearest_of_some(distances: Floats, count: int) -> Floats:
    """float64 [...]: the smallest of `count` of the distances [..., n], on average over all choices of so many.

    The i-th smallest is the smallest of C(n - i, count - 1) of the C(n, count) choices.
    """
    n = distances.shape[-1]
    _some("distances", n)
    if not 1 <= count <= n:
        raise UsageError(f"Expected a count from 1 to {n}, got {count}.", remedy="Take no more than there are.")
    if count == n:
        return distances.min(axis=-1)
    rank = np.arange(n - count + 1)
    share = np.cumprod(np.append(count / n, (n - rank[:-1] - count) / (n - rank[:-1] - 1)))
    return np.sort(distances, axis=-1)[..., : n - count + 1] @ share


def share_nearer(own: Floats, other: Floats) -> Floats:
    """float64 [...]: how often the nearest is one of its own, at equal counts, on average over all choices of so many.

    The set that is larger gives as many as the smaller one has; ties count half. Where it was a fair draw which
    distances are `own` ones, the mean is exactly 1/2, whatever their number.

    Args:
        own: distances [..., n] to the points of one set.
        other: distances [..., m] to those of the other.
    """
    _some("distances to compare", min(own.shape[-1], other.shape[-1]))
    if own.shape[-1] < other.shape[-1]:
        return 1 - share_nearer(other, own)
    count, fixed = other.shape[-1], other.min(axis=-1, keepdims=True)
    farther = _none_chosen((own > fixed).sum(axis=-1), own.shape[-1], count)
    no_nearer = _none_chosen((own >= fixed).sum(axis=-1), own.shape[-1], count)
    return 1 - (farther + no_nearer) / 2


def _none_chosen(allowed: Ints, n: int, count: int) -> Floats:
    """C(allowed, count) / C(n, count): the chance that all of `count` out of n are among the allowed ones."""
    a = np.asarray(allowed, np.float64)
    chance = np.exp(gammaln(a + 1) - gammaln(np.maximum(a - count, 0) + 1) - gammaln(n + 1) + gammaln(n - count + 1))
    return np.where(a >= count, chance, 0.0)


def _some(what: str, count: int) -> None:
    if count < 1:
        raise UsageError(f"Expected {what}, got none.", remedy="Leave out what has nothing to compare with.")
