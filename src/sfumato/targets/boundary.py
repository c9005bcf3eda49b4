"""How far a record is from the decision boundary, found with labels only: a batched HopSkipJump walk.

Chen, Jordan, Wainwright: HopSkipJumpAttack, IEEE S&P 2020 (arXiv 1904.02144), algorithm 2, L2, untargeted. From a point
with another label, a walk goes along the boundary towards the record: a search along the line to the record, an
estimate of the boundary's direction there from the labels of points around, and a step in that direction, halved until
the label is another one again. Ours: a budget of queries for each record, after which the nearest point so far counts;
the search ends at a tolerance of at most 1e-3 also where there are few dimensions; a step is halved at most ten times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sfumato.types import Bools, Floats, Ints

Right = Callable[[torch.Tensor, Ints], Bools]
Directions = Callable[[int, int, int], torch.Tensor]

FIRST_BATCH = 100  # labels for the first direction (B_0 of the paper); sqrt(t) times as many for the t-th
FIRST_RADIUS = 0.1  # of the first estimate, in widths of the box
TOLERANCE = 1e-3
HALVINGS = 10
FEWEST = 10  # labels worth estimating a direction from


class Box(NamedTuple):
    """Where points may lie, and how long they are measured; float32 [*shape] each.

    Attributes:
        low: smallest value of each feature.
        high: largest.
        unit: what counts as a distance of 1 in each feature, above 0.
    """

    low: torch.Tensor
    high: torch.Tensor
    unit: torch.Tensor

    @property
    def width(self) -> float:
        """Mean width."""
        return float((self.high - self.low).mean())


class Walked(NamedTuple):
    """What came of the walks.

    Attributes:
        distances: float64 [n], L2 in units: 0 for a record whose label is wrong already; the distance to the farthest
            corner of the box, which no point in it exceeds, where no start had another label.
        queries: int64 [n], labels that were asked for each record, at most the budget.
    """

    distances: Floats
    queries: Ints


def boundary_distances(
    right: Right, x: torch.Tensor, starts: torch.Tensor, budget: int, directions: Directions, box: Box
) -> Walked:
    """Walk from a start with another label towards each record; smallest distance at which the label was another one.

    An upper bound of the distance to the boundary, which falls to it as the budget grows. The walks go side by side.

    Args:
        right: points [b, *shape] and the record that each is about (int64 [b], 0 .. n-1) to bool [b]: whether the label
            is the record's own.
        x: float32 [n, *shape], in the box.
        starts: float32 [n, tries, *shape], tried in this order.
        budget: most labels for each record.
        directions: (record, iteration, k) to [k, numbers of a record], standard normal; the same for the same names.
        box: where the walk may go.
    """
    walk = _walk(right, x, starts, budget, directions, box)
    correct = walk.ask(walk.x, np.arange(len(x)))
    walk.best[~correct] = 0.0
    walking, iteration = walk.begin(np.flatnonzero(correct)), 1
    while len(walking := walking[walk.samples(walking, iteration) >= FEWEST]):
        walk.step(walking, iteration)
        iteration += 1
    return Walked(walk.best, walk.queries)


@dataclass(eq=False)
class _Walk:
    """The walks of n records. Points are flat, in units: float32 [n, d].

    Args:
        right, budget, directions, box: see `boundary_distances`; the box is flat and in units, but for its unit.
        shape: of a record.
        starts: [n, tries, d].
        x: the records.
        points: where the walks are: outside the region of the record's own label, once a walk has begun.
        best: float64 [n], smallest distance so far.
        queries: int64 [n], labels asked so far.
    """

    right: Right
    budget: int
    directions: Directions
    box: Box
    shape: torch.Size
    starts: torch.Tensor
    x: torch.Tensor
    points: torch.Tensor
    best: Floats
    queries: Ints

    @property
    def numbers(self) -> int:
        return self.x.shape[1]

    @property
    def halves(self) -> int:
        """Labels for one search."""
        return math.ceil(-math.log2(min(TOLERANCE, self.numbers**-1.5)))

    def ask(self, points: torch.Tensor, owners: Ints) -> Bools:
        """bool [b]: whether these points [b, d] have the label of their record; counted."""
        if not len(owners):
            return np.zeros(0, dtype=bool)
        self.queries += np.bincount(owners, minlength=len(self.x))
        return self.right((points * self.box.unit).reshape(-1, *self.shape), owners)

    def begin(self, records: Ints) -> Ints:
        """Find starts, and from them the boundary; the records that have one."""
        waiting = records
        for tried in range(self.starts.shape[1]):
            asked = waiting[self.queries[waiting] < self.budget - self.halves]
            points = self.starts[asked, tried]
            other = ~self.ask(points, asked)
            self.points[asked[other]] = points[torch.from_numpy(other)]
            self.search(asked[other])
            waiting = np.setdiff1d(waiting, asked[other])
        return np.setdiff1d(records, waiting)

    def samples(self, records: Ints, iteration: int) -> Ints:
        """int64: labels for the next direction of each record, so that what follows it stays within the budget."""
        left = self.budget - self.queries[records] - self.halves - HALVINGS
        return np.minimum(left, int(FIRST_BATCH * math.sqrt(iteration)))

    def search(self, records: Ints) -> None:
        """Move the points along the lines to their records as far as the label stays another one."""
        if not len(records):
            return
        x, point = self.x[records], self.points[records]
        near, far = torch.zeros(len(records), 1), torch.ones(len(records), 1)
        for _ in range(self.halves):
            middle = (near + far) / 2
            correct = torch.from_numpy(self.ask(torch.lerp(x, point, middle), records))[:, None]
            near, far = torch.where(correct, middle, near), torch.where(correct, far, middle)
        self.points[records] = torch.lerp(x, point, far)
        self.best[records] = np.minimum(self.best[records], self.distance(records))

    def distance(self, records: Ints) -> Floats:
        """float64: from the points to their records."""
        return _lengths(self.points[records] - self.x[records])

    def step(self, records: Ints, iteration: int) -> None:
        """One iteration for these records: estimate the direction, step along it, search for the boundary."""
        counts, distances = self.samples(records, iteration), self.distance(records)
        found = [self.direction(*one, iteration) for one in zip(records, counts, distances, strict=True)]
        ways = torch.stack(found)
        length = torch.from_numpy(distances / math.sqrt(iteration)).float()[:, None]
        before, waiting = self.points[records], np.arange(len(records))
        for halved in range(HALVINGS):
            there = (before[waiting] + 0.5**halved * length[waiting] * ways[waiting]).clamp(self.box.low, self.box.high)
            other = ~self.ask(there, records[waiting])
            self.points[records[waiting[other]]] = there[torch.from_numpy(other)]
            waiting = waiting[~other]
            if not len(waiting):
                break
        self.search(np.delete(records, waiting))

    def direction(self, record: int, count: int, distance: float, iteration: int) -> torch.Tensor:
        """[d], unit length: towards the side of the other labels, at the point of a record.

        Equation 16 of the paper: the mean of directions, weighted by whether the label changed less its mean.
        """
        point = self.points[record]
        radius = FIRST_RADIUS * self.box.width if iteration == 1 else distance / self.numbers
        ways = self.directions(record, iteration, count)
        ways = ways / ways.norm(dim=1, keepdim=True)
        around = (point + radius * ways).clamp(self.box.low, self.box.high)
        correct = self.ask(around, np.full(count, record))
        sign = torch.from_numpy(np.where(correct, -1.0, 1.0)).to(point)
        weight = sign if correct.all() or not correct.any() else sign - sign.mean()
        way = weight @ ((around - point) / radius)
        return way / way.norm().clamp(min=torch.finfo(way.dtype).tiny)


def _walk(right: Right, x: torch.Tensor, starts: torch.Tensor, budget: int, directions: Directions, box: Box) -> _Walk:
    """Everything in units, and flat, before the first label."""
    unit = box.unit.reshape(-1)
    flat = Box(box.low.reshape(-1) / unit, box.high.reshape(-1) / unit, unit)
    records = x.flatten(1) / unit
    return _Walk(
        right=right,
        budget=budget,
        directions=directions,
        box=flat,
        shape=x.shape[1:],
        starts=starts.flatten(2) / unit,
        x=records,
        points=records.clone(),
        best=_lengths(torch.maximum(records - flat.low, flat.high - records)),
        queries=np.zeros(len(x), dtype=np.int64),
    )


def _lengths(vectors: torch.Tensor) -> Floats:
    return vectors.double().norm(dim=1).numpy()
