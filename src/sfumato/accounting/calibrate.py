"""The noise, the steps or the rate at which mechanisms just keep a target.

Each search starts from a bracket by Chernoff's bound, closes in on one grid of losses, whose epsilon is never too
small, and ends with a value whose epsilon by the PLD accountant was computed and is at most the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from sfumato.accounting.accountants.base import one_relation
from sfumato.accounting.accountants.pld import FINEST, PLD, OnGrid, ladder, margin, on_grid, rough_epsilon
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import Mechanism, number
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import UsageError
from sfumato.validate import positive

NOISES, RATES, STEPS = (0.02, 1e9), (1e-12, 1.0), (1.0, 1e8)
SLACK = 0.004  # share of the target that may stay unused, above the margin
_MARGIN = 0.003  # two neighbouring grids may differ by this share
_UNUSED = 0.0095  # share of the target with which the search is content
_ROUNDS = 60
_TURNS = 6
_LARGEST = 1 << 22  # grid points at most


@dataclass(frozen=True)
class Target:
    """What is to be kept.

    Args:
        epsilon: above 0.
        delta: in (0, 1).
        alongside: mechanisms that run as well and count towards it.
    """

    epsilon: float
    delta: float
    alongside: tuple[Mechanism, ...] = ()

    def __post_init__(self) -> None:
        number("target_epsilon", self.epsilon)
        positive("target_epsilon", self.epsilon)
        if not 0 < self.delta < 1:
            raise UsageError(
                f"Expected `target_delta` above 0 and below 1, got {self.delta!r}.",
                remedy="Choose one well below one over the number of units, e.g. 1e-6.",
            )


class Point(NamedTuple):
    """A value of the unknown, as a logarithm, and the logarithm of epsilon over its target there."""

    place: float
    height: float


class Bracket(NamedTuple):
    """The target is kept at one point, and not at the other."""

    kept: Point
    beyond: Point


def calibrate_noise(
    target_epsilon: float,
    target_delta: float,
    sample_rate: float,
    steps: int,
    adjacency: Adjacency | str,
    alongside: Sequence[Mechanism] = (),
) -> float:
    """The least noise multiplier for Poisson-sampled Gaussian steps, to within the slack.

    Args:
        target_epsilon: above 0.
        target_delta: in (0, 1).
        sample_rate: probability of a unit to take part in a step.
        steps: how many steps.
        adjacency: the neighbouring relation.
        alongside: mechanisms that run as well and count towards the target.

    Raises:
        UsageError: if a value is not usable, or no noise keeps the target.
    """

    def made(noise: float) -> Mechanism:
        return PoissonGaussian(
            sample_rate=sample_rate, noise_multiplier=noise, steps=steps, adjacency=Adjacency.named(adjacency)
        )

    return calibrated(made, Target(target_epsilon, target_delta, tuple(alongside)), NOISES, rising=False)


def calibrate_sample_rate(
    target_epsilon: float,
    target_delta: float,
    noise_multiplier: float,
    steps: int,
    adjacency: Adjacency | str,
    alongside: Sequence[Mechanism] = (),
) -> float:
    """The largest sample rate, at most 1; arguments as in `calibrate_noise`.

    Raises:
        UsageError: if a value is not usable, or no rate keeps the target.
    """

    def made(rate: float) -> Mechanism:
        return PoissonGaussian(
            sample_rate=min(rate, 1.0),
            noise_multiplier=noise_multiplier,
            steps=steps,
            adjacency=Adjacency.named(adjacency),
        )

    return calibrated(made, Target(target_epsilon, target_delta, tuple(alongside)), RATES, rising=True)


def calibrate_steps(
    target_epsilon: float,
    target_delta: float,
    sample_rate: float,
    noise_multiplier: float,
    adjacency: Adjacency | str,
    alongside: Sequence[Mechanism] = (),
) -> int:
    """The largest number of steps, to within the slack, at most 100 million; arguments as in `calibrate_noise`.

    Raises:
        UsageError: if a value is not usable, or not even one step keeps the target.
    """

    def made(steps: float) -> Mechanism:
        return PoissonGaussian(
            sample_rate=sample_rate,
            noise_multiplier=noise_multiplier,
            steps=int(steps),
            adjacency=Adjacency.named(adjacency),
        )

    target = Target(target_epsilon, target_delta, tuple(alongside))
    return int(calibrated(made, target, STEPS, rising=True, whole=True))


def calibrated(
    made: Callable[[float], Mechanism],
    target: Target,
    limits: tuple[float, float],
    *,
    rising: bool,
    whole: bool = False,
) -> float:
    """The value within `limits` whose mechanism, with those alongside, keeps the target closely.

    Args:
        made: mechanism with this value; its epsilon must be monotonic.
        target: what is to be kept.
        limits: smallest and largest value that is tried.
        rising: whether epsilon rises with the value.
        whole: whether only whole numbers are different.

    Raises:
        UsageError: if no value within the limits keeps the target.
    """
    gentle, harsh = (math.log(limit) for limit in (limits if rising else limits[::-1]))
    search = _Search(made, target, whole)
    if search.roughly(harsh) <= 0:
        return search.value(harsh)
    place = search.solved(gentle, harsh)
    if place is None:
        raise UsageError(
            f"Expected a target that can be kept, got epsilon {target.epsilon:g} at delta {target.delta:g}, which even "
            f"{made(math.exp(gentle)).described} exceeds.",
            remedy="Raise the target, or change what was held fixed.",
        )
    return search.value(place)


@dataclass(frozen=True)
class _Search:
    made: Callable[[float], Mechanism]
    target: Target
    whole: bool
    known: dict[tuple[float, float], OnGrid] = field(default_factory=dict)

    def value(self, place: float) -> float:
        """The unknown at a place; a logarithm may fall short of a whole number by rounding."""
        return float(math.floor(math.exp(place) + 1e-6)) if self.whole else math.exp(place)

    def together(self, place: float) -> list[Mechanism]:
        mechanisms = [*self.target.alongside, self.made(self.value(place))]
        one_relation(mechanisms)
        return [mechanism for mechanism in mechanisms if mechanism.steps]

    def height(self, epsilon: float) -> float:
        return math.log(epsilon / self.target.epsilon) if epsilon > 0 else -math.inf

    def at(self, place: float, unit: float) -> OnGrid:
        """Epsilon on one grid; each is computed once."""
        if (place, unit) not in self.known:
            self.known[place, unit] = on_grid(self.together(place), unit, self.target.delta)
        return self.known[place, unit]

    def height_at(self, unit: float, place: float) -> float:
        """Height on one grid."""
        return self.height(self.at(place, unit).epsilon * margin(self.together(place)))

    def roughly(self, place: float) -> float:
        """Height by Chernoff's bound: never too small."""
        return self.height(rough_epsilon(self.together(place), self.target.delta))

    def exactly(self, place: float) -> float:
        """Height by the accountant."""
        mechanisms = self.together(place)
        bound = rough_epsilon(mechanisms, self.target.delta)
        found = PLD().refine(lambda unit: self.at(place, unit), bound)
        return self.height(min(found.epsilon, bound) * margin(mechanisms))

    def solved(self, gentle: float, harsh: float) -> float | None:
        """A place near the crossing that the accountant itself finds kept; None where none is."""
        if self.roughly(gentle) > 0 and self.exactly(gentle) > 0:
            return None
        start = Bracket(Point(gentle, -math.inf), Point(harsh, self.roughly(harsh)))
        place = self.narrowed(start, self.roughly, -0.1, 0.0).kept.place
        high, unit = 0.0 if self.whole else -_MARGIN, ladder(self.target.epsilon / 256)
        best = place if self.exactly(place) <= 0 else gentle
        for _ in range(_TURNS):
            place, unit = self.on_ladder(place, unit, gentle, harsh, high)
            found = self.exactly(place)
            if found <= 0 and (place - best) * (harsh - gentle) >= 0:
                best = place
            if -_UNUSED <= found <= 0 or (found <= 0 and self.ended(place, harsh)):
                break
            if found <= 0 and unit > FINEST:  # the grid was too coarse to come close
                unit = ladder(unit / 4)
            else:
                high -= _MARGIN
        return best

    def ended(self, place: float, harsh: float) -> bool:
        """Whether nothing lies between a kept place and the crossing."""
        return place == harsh or (self.whole and self.exactly(math.log(self.value(place) + 1)) > 0)

    def on_ladder(self, place: float, unit: float, gentle: float, harsh: float, high: float) -> _Rung:
        """The crossing on one grid after the other, each four times finer, until the finer one changes little."""
        while True:
            on_rung = partial(self.height_at, unit)
            place = self.narrowed(self.around(place, unit, gentle, harsh), on_rung, high - SLACK, high).kept.place
            place = math.log(max(1.0, self.value(place))) if self.whole else place
            found = self.at(place, unit)
            if found.interval <= FINEST or 4 * found.points > _LARGEST:
                return _Rung(place, unit)
            finer = ladder(found.interval / 4)
            if self.height(found.epsilon) - self.height_at(finer, place) <= _MARGIN:
                return _Rung(place, unit)
            unit = finer

    def around(self, place: float, unit: float, gentle: float, harsh: float) -> Bracket:
        """A bracket on one grid, from a place that is near, widened step by step."""
        first = Point(place, self.height_at(unit, place))
        outwards = first.height <= 0
        end = harsh if outwards else gentle
        stride = math.copysign(max(0.01, 0.5 * abs(max(first.height, -0.2))), end - place)
        second = first
        while (second.height <= 0) == outwards and second.place != end:
            at = second.place + stride
            at = end if (end - at) * stride <= 0 else at
            first, second, stride = second, Point(at, self.height_at(unit, at)), 2 * stride
        return Bracket(first, second) if outwards else Bracket(second, first)

    def narrowed(self, bracket: Bracket, height: Callable[[float], float], low: float, high: float) -> Bracket:
        """A bracket whose kept end is between `low` and `high`, by secants, with a bisection in every third round."""
        kept, beyond = bracket
        if beyond.height <= high:
            return Bracket(beyond, beyond)
        for turn in range(_ROUNDS):
            if low <= kept.height <= high or (self.whole and self.value(beyond.place) - self.value(kept.place) <= 1):
                break
            place = _between(kept, beyond, (low + high) / 2, bisect=turn % 3 == 2)
            point = Point(place, height(place))
            kept, beyond = (point, beyond) if point.height <= high else (kept, point)
        return Bracket(kept, beyond)


class _Rung(NamedTuple):
    place: float
    unit: float


def _between(kept: Point, beyond: Point, aim: float, *, bisect: bool) -> float:
    share = 0.5
    if not bisect and math.isfinite(kept.height) and math.isfinite(beyond.height) and beyond.height > kept.height:
        share = min(0.97, max(0.03, (aim - kept.height) / (beyond.height - kept.height)))
    return kept.place + share * (beyond.place - kept.place)
