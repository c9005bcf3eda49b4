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
_ROUNDED = 1 + 1e-6  # floating point may take away less than this from epsilon


class Composed(NamedTuple):
    """All mechanisms together, in both orders (the same object where both lose alike)."""

    removed: ComposedLoss
    added: ComposedLoss

    def delta(self, epsilons: Floats) -> Floats:
        """[epsilons] the larger delta of both orders at each epsilon from 0."""
        first = self.removed.delta(epsilons)
        return first if self.removed is self.added else np.maximum(first, self.added.delta(epsilons))


class Refined(NamedTuple):
    """An upper bound on epsilon, and the grid unit that is fine enough for it."""

    epsilon: float
    interval: float


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

    def refined(self, mechanisms: Sequence[Mechanism], delta: float) -> Refined:
        """Epsilon of running mechanisms with noise, and the grid unit at which it was found."""
        bound = rough_epsilon(mechanisms, delta)
        interval = _multiple(bound / 256)
        value = epsilon_on_grid(mechanisms, interval, delta)
        while value > 0 and interval > FINEST:
            interval = _multiple(interval / 4)
            if points(mechanisms, interval, delta) > _LARGEST:
                break
            before, value = value, epsilon_on_grid(mechanisms, interval, delta)
            if before - value <= self.tolerance * value:
                break
        return Refined(min(value, bound) * _ROUNDED, interval)

    def composed(self, mechanisms: Sequence[Mechanism], delta: float) -> Composed:
        """The composed losses, for all deltas, on the grid that is fine enough at `delta`."""
        one_relation(mechanisms)
        parts = sides(mechanisms, self.refined(mechanisms, delta).interval)
        orders = [composed(side) for side in parts]
        return Composed(orders[0], orders[-1])


def _multiple(interval: float) -> float:
    return max(1, int(interval / FINEST)) * FINEST


def rough_epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """An upper bound on epsilon by Chernoff, in a few milliseconds."""
    return max(0.0, *(_bounded(side, delta).high for side in sides(mechanisms, FINEST)))


def epsilon_on_grid(mechanisms: Sequence[Mechanism], interval: float, delta: float) -> float:
    """An upper bound on epsilon from the grid with this unit."""
    return max(_epsilon_of_side(side, delta) for side in sides(mechanisms, interval))


def _epsilon_of_side(side: Sequence[Part], delta: float) -> float:
    found = composed(side, _tilt(side, delta)).epsilon(delta)
    return max(0.0, found if math.isfinite(found) else composed(side).epsilon(delta))


def points(mechanisms: Sequence[Mechanism], interval: float, delta: float) -> int:
    """How many grid points `epsilon_on_grid` computes for the longer of the two orders."""
    spreads = [window(side, _tilt(side, delta)) for side in sides(mechanisms, interval)]
    return max(math.ceil((spread.high - spread.low) / interval) for spread in spreads)


def _tilt(side: Sequence[Part], delta: float) -> float:
    return _bounded(side, delta).order / 2


def _bounded(side: Sequence[Part], delta: float) -> Spread:
    finite = delta - sum(part.times * part.loss.infinite for part in side)
    return chernoff(side, math.log(finite)) if finite > 0 else Spread(-math.inf, math.inf, 0.0)


def sides(mechanisms: Sequence[Mechanism], interval: float) -> list[list[Part]]:
    """What is composed in each order: one list where all mechanisms lose alike in both, else two."""
    losses = [mechanism.losses(interval) for mechanism in mechanisms]
    counts = [mechanism.repeats for mechanism in mechanisms]
    removed = [Part(loss.removed, count) for loss, count in zip(losses, counts)]
    if all(loss.symmetric for loss in losses):
        return [removed]
    return [removed, [Part(loss.added, count) for loss, count in zip(losses, counts)]]
