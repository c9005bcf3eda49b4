"""Privacy loss distributions: tight, and the default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from sfumato.accounting.accountants.base import Accountant, one_relation
from sfumato.accounting.composition import ComposedLoss, Part, Spread, chernoff, composed, window
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.types import Floats

FINEST = 1e-5  # grid unit of loss, dp-accounting's most exact setting that is in use; coarser grids are multiples of it
_LARGEST = 1 << 23  # grid points; a finer grid than this allows is not tried, and the bound stays an upper one
_DOUBTFUL = 1e-3  # share of delta that rounding may account for before another way is tried
_ROUNDED = 1 + 1e-6  # floating point may take away less than this from epsilon


class Composed(NamedTuple):
    """All mechanisms together, in both orders (the same object where both lose alike)."""

    removed: ComposedLoss
    added: ComposedLoss

    def delta(self, epsilons: Floats) -> Floats:
        """[epsilons] the larger delta of both orders at each epsilon from 0."""
        first = self.removed.delta(epsilons)
        return first if self.removed is self.added else np.maximum(first, self.added.delta(epsilons))


class OnGrid(NamedTuple):
    """An upper bound on epsilon, the grid unit that gave it, and how many points that took."""

    epsilon: float
    interval: float
    points: int


@dataclass(frozen=True)
class PLD(Accountant):
    """Numerical composition of privacy losses (Koskela et al. 2020), with Connect-the-Dots grids.

    The grid is refined until a grid four times finer changes epsilon by less than `tolerance`, or until the unit is
    `FINEST`. All grids are pessimistic and nested, so the result is never below dp-accounting's at a unit of 1e-5.

    Args:
        tolerance: relative change of epsilon at which a grid is fine enough.
    """

    name: ClassVar[str] = "pld"
    words: ClassVar[str] = "privacy loss distributions (PLD)"

    tolerance: float = 2e-3

    def _epsilon(self, mechanisms: Sequence[Mechanism], delta: float) -> float:
        return self.refined(mechanisms, delta).epsilon

    def refined(self, mechanisms: Sequence[Mechanism], delta: float) -> OnGrid:
        """Epsilon of running mechanisms with noise, on a grid that is fine enough for it."""
        bound = rough_epsilon(mechanisms, delta)
        found = on_grid(mechanisms, bound / 256, delta)
        while found.epsilon > 0 and found.interval > FINEST and 4 * found.points <= _LARGEST:
            before, found = found, on_grid(mechanisms, found.interval / 4, delta)
            if before.epsilon - found.epsilon <= self.tolerance * found.epsilon:
                break
        return found._replace(epsilon=min(found.epsilon, bound) * _ROUNDED)

    def composed(self, mechanisms: Sequence[Mechanism], delta: float) -> Composed:
        """The composed losses, for all deltas, on the grid that is fine enough at `delta`."""
        one_relation(mechanisms)
        orders = [plainly(side) for side in sides(mechanisms, self.refined(mechanisms, delta).interval)]
        return Composed(orders[0], orders[-1])


def plainly(side: Sequence[Part]) -> ComposedLoss:
    """The composed loss for all deltas."""
    return composed(side, 0.0, window(side))


def rough_epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """An upper bound on epsilon by Chernoff, in a few milliseconds."""
    return max(0.0, *(_bounded(side, delta).high for side in sides(mechanisms, FINEST)))


def _bounded(side: Sequence[Part], delta: float) -> Spread:
    finite = delta - sum(part.times * part.loss.infinite for part in side)
    return chernoff(side, math.log(finite)) if finite > 0 else Spread(-math.inf, math.inf, 0.0)


def on_grid(mechanisms: Sequence[Mechanism], interval: float, delta: float, largest: int = _LARGEST) -> OnGrid:
    """An upper bound on epsilon from the grid whose unit is the multiple of `FINEST` next below `interval`.

    A grid that would need more than `largest` points is replaced by a coarser one.
    """
    unit = max(1, int(min(interval, 1e9) / FINEST)) * FINEST
    parts = sides(mechanisms, unit)
    bounds = [_bounded(side, delta) for side in parts]  # half their order, see `composed`
    spreads = [window(side, bound.order / 2) for side, bound in zip(parts, bounds)]
    longest = math.ceil(max(spread.high - spread.low for spread in spreads) / unit)
    if longest > largest:
        return on_grid(mechanisms, unit * max(2.0, longest / largest), delta, largest)
    values = [_epsilon(side, bound.order / 2, spread, delta) for side, bound, spread in zip(parts, bounds, spreads)]
    return OnGrid(max(0.0, *values), unit, longest)


def _epsilon(side: Sequence[Part], order: float, spread: Spread, delta: float) -> float:
    loss = composed(side, order, spread)
    value = loss.epsilon(delta)
    if math.isfinite(value) and loss.doubt_at(value) <= _DOUBTFUL * delta:
        return value
    value = min(_bounded(side, delta).high, value if value > -math.inf else math.inf)
    everything = window(side)  # the tilt did not suit: without one the window is long, and serves any delta
    if everything.high - everything.low > _LARGEST * side[0].loss.interval:
        return value
    return min(value, composed(side, 0.0, everything).epsilon(delta))


def sides(mechanisms: Sequence[Mechanism], interval: float) -> list[list[Part]]:
    """What is composed in each order: one list where all mechanisms lose alike in both, else two."""
    losses = [mechanism.losses(interval) for mechanism in mechanisms]
    counts = [mechanism.repeats for mechanism in mechanisms]
    removed = [Part(loss.removed, count) for loss, count in zip(losses, counts)]
    if all(loss.symmetric for loss in losses):
        return [removed]
    return [removed, [Part(loss.added, count) for loss, count in zip(losses, counts)]]
