"""Privacy loss distributions: tight, and the default."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from sfumato.accounting.accountants.base import Accountant, one_relation
from sfumato.accounting.composition import ComposedLoss, Part, Spread, chernoff, composed, epsilon_of_one, window
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.accounting.privacy_loss import trimmed
from sfumato.types import Floats

FINEST = 1e-5  # grid unit of loss, dp-accounting's most exact setting that is in use; coarser grids are multiples of it
_LARGEST = 1 << 23  # grid points; a finer grid than this allows is not tried, and the bound stays an upper one
_CUT = 1e-6  # share of delta that may be counted as unbounded loss
_DOUBTFUL = 1e-3  # share of delta that rounding may account for before another way is tried


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
    `FINEST`. All grids are pessimistic and take their points from multiples of `FINEST`, so the result is never below
    dp-accounting's at a unit of 1e-5.

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
        found = self.refine(lambda unit: on_grid(mechanisms, unit, delta), bound)
        return found._replace(epsilon=min(found.epsilon, bound) * margin(mechanisms))

    def refine(self, at: Callable[[float], OnGrid], bound: float) -> OnGrid:
        """The first of ever finer grids that is fine enough.

        Args:
            at: epsilon on the grid with a unit.
            bound: on epsilon; a 256th of it is the coarsest unit.
        """
        found = at(ladder(bound / 256))
        while found.epsilon > 0 and found.interval > FINEST and 4 * found.points <= _LARGEST:
            before, found = found, at(ladder(found.interval / 4))
            if before.epsilon - found.epsilon <= self.tolerance * found.epsilon:
                break
        return found

    def composed(self, mechanisms: Sequence[Mechanism], delta: float) -> Composed:
        """The composed losses, for all deltas, on the grid that is fine enough at `delta`."""
        one_relation(mechanisms)
        orders = [plainly(side) for side in sides(mechanisms, self.refined(mechanisms, delta).interval, delta)]
        return Composed(orders[0], orders[-1])


def plainly(side: Sequence[Part]) -> ComposedLoss:
    """The composed loss for all deltas."""
    return composed(side, 0.0, window(side))


def margin(mechanisms: Sequence[Mechanism]) -> float:
    """The factor by which epsilon is raised: 1.002 at most.

    dp-accounting's transform at a unit of 1e-5 rounds by up to 0.07% of epsilon at a million steps, mostly upwards; a
    bound that is never below it has to allow for that.
    """
    return 1 + min(2e-3, 1e-6 + 1e-8 * sum(mechanism.repeats for mechanism in mechanisms))


def ladder(interval: float) -> float:
    """The unit next below `interval` among `FINEST` times powers of 4; `FINEST` at least."""
    rungs = math.floor(math.log(max(min(interval, 1e12), FINEST) / FINEST, 4) + 1e-9)
    return FINEST * 4**rungs


def rough_epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """An upper bound on epsilon by Chernoff, in a few milliseconds."""
    return max(0.0, *(_bounded(side, delta).high for side in sides(mechanisms, FINEST, delta)))


def _bounded(side: Sequence[Part], delta: float) -> Spread:
    finite = delta - sum(part.times * part.loss.infinite for part in side)
    return chernoff(side, math.log(finite)) if finite > 0 else Spread(-math.inf, math.inf, 0.0)


def on_grid(mechanisms: Sequence[Mechanism], unit: float, delta: float, largest: int = _LARGEST) -> OnGrid:
    """An upper bound on epsilon from the grid with this unit of the `ladder`.

    A grid that would need more than `largest` points is replaced by a coarser one.
    """
    parts = sides(mechanisms, unit, delta)
    if len(parts[0]) == 1 and parts[0][0].times == 1:
        values = [epsilon_of_one(side[0].loss, delta) for side in parts]
        return OnGrid(max(0.0, *values), unit, max(len(side[0].loss.positions) for side in parts))
    bounds = [_bounded(side, delta) for side in parts]  # half their order, see `composed`
    spreads = [window(side, bound.order / 2) for side, bound in zip(parts, bounds)]
    longest = math.ceil(max(spread.high - spread.low for spread in spreads) / unit)
    if longest > largest:
        return on_grid(mechanisms, ladder(unit * max(4.0, longest / largest)), delta, largest)
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


def sides(mechanisms: Sequence[Mechanism], unit: float, delta: float) -> list[list[Part]]:
    """What is composed in each order: one list where all mechanisms lose alike in both, else two.

    Losses that are next to impossible at the scale of `delta` are cut off, which keeps grids short.
    """
    losses = [mechanism.losses(unit) for mechanism in mechanisms]
    counts = [mechanism.repeats for mechanism in mechanisms]
    share = _CUT * delta / sum(counts)
    removed = [Part(trimmed(loss.removed, share), count) for loss, count in zip(losses, counts)]
    if all(loss.symmetric for loss in losses):
        return [removed]
    return [removed, [Part(trimmed(loss.added, share), count) for loss, count in zip(losses, counts)]]
