"""The noise, the steps or the rate at which mechanisms just keep a target.

Each search starts from a bracket by Chernoff's bound, closes in on one grid of losses, whose epsilon is never too
small, and ends with a value whose epsilon by the PLD accountant was computed and is at most the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sfumato.accounting.accountants.base import one_relation
from sfumato.accounting.accountants.pld import PLD, on_grid, rough_epsilon
from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.mechanisms.base import Mechanism, number
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian
from sfumato.errors import UsageError
from sfumato.validate import positive

NOISES, RATES, STEPS = (0.02, 1e9), (1e-12, 1.0), (1.0, 1e8)
SLACK = 0.008  # share of the target that may stay unused
_MARGIN = 0.003  # the search's own grid may differ from the accountant's by this share
_ROUNDS = 60
_POINTS = 1 << 17  # of the search's own grid


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
            steps=math.floor(steps),
            adjacency=Adjacency.named(adjacency),
        )

    target = Target(target_epsilon, target_delta, tuple(alongside))
    return math.floor(calibrated(made, target, STEPS, rising=True, whole=True))


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
        return math.exp(harsh)
    start = search.bracketed(gentle, harsh)
    place = None if start is None else search.verified(search.widened(start, harsh))
    if place is None:
        raise UsageError(
            f"Expected a target that can be kept, got epsilon {target.epsilon:g} at delta {target.delta:g}, which even "
            f"{made(math.exp(gentle)).described} exceeds.",
            remedy="Raise the target, or change what was held fixed.",
        )
    return math.exp(place)


@dataclass(frozen=True)
class _Search:
    made: Callable[[float], Mechanism]
    target: Target
    whole: bool

    def together(self, place: float) -> list[Mechanism]:
        mechanisms = [*self.target.alongside, self.made(math.exp(place))]
        one_relation(mechanisms)
        return [mechanism for mechanism in mechanisms if mechanism.steps]

    def roughly(self, place: float) -> float:
        """Height by Chernoff's bound: never too small."""
        return self.height(rough_epsilon(self.together(place), self.target.delta))

    def exactly(self, place: float) -> float:
        """Height by the accountant."""
        return self.height(PLD().epsilon(self.together(place), self.target.delta))

    def height(self, epsilon: float) -> float:
        return math.log(epsilon / self.target.epsilon) if epsilon > 0 else -math.inf

    def bracketed(self, gentle: float, harsh: float) -> Bracket | None:
        """Where Chernoff's bound crosses the target; None where it is not even kept at the gentle end."""
        first = Point(gentle, self.roughly(gentle))
        if first.height > 0:
            first = Point(gentle, self.exactly(gentle))
        if first.height > 0:
            return None
        bracket = Bracket(first, Point(harsh, self.roughly(harsh)))
        return self.narrowed(bracket, self.roughly, -0.06, -0.01)

    def widened(self, bracket: Bracket, harsh: float) -> tuple[Bracket, Callable[[float], float]]:
        """The same on a grid that serves the neighbourhood, with the height on it; the far end does exceed there."""
        mechanisms, delta = self.together(bracket.kept.place), self.target.delta
        interval = PLD().refined(mechanisms, delta).interval

        def on_this_grid(place: float) -> float:
            return self.height(on_grid(self.together(place), interval, delta, _POINTS).epsilon)

        kept = Point(bracket.kept.place, on_this_grid(bracket.kept.place))
        stride = math.copysign(max(0.05, 0.5 * abs(min(kept.height, 0.0))), harsh - kept.place)
        beyond = kept
        while beyond.height <= 0 and beyond.place != harsh:
            place = beyond.place + stride
            place = harsh if (harsh - place) * stride <= 0 else place
            kept, beyond, stride = beyond, Point(place, on_this_grid(place)), 2 * stride
        return Bracket(kept, beyond), on_this_grid

    def narrowed(self, bracket: Bracket, height: Callable[[float], float], low: float, high: float) -> Bracket:
        """A bracket whose kept end is between `low` and `high`, by secants, with a bisection in every third round."""
        kept, beyond = bracket
        for turn in range(_ROUNDS):
            if low <= kept.height or (self.whole and _neighbours(kept, beyond)) or kept.place == beyond.place:
                break
            place = _between(kept, beyond, (low + high) / 2, bisect=turn % 3 == 2)
            point = Point(place, height(place))
            kept, beyond = (point, beyond) if point.height <= high else (kept, point)
        return Bracket(kept, beyond)

    def verified(self, found: tuple[Bracket, Callable[[float], float]]) -> float | None:
        """A place near the crossing at which the accountant itself keeps the target."""
        bracket, height = found
        if bracket.beyond.height <= 0 and self.exactly(bracket.beyond.place) <= 0:
            return bracket.beyond.place
        high = 0.0 if self.whole else -_MARGIN
        for _ in range(6):
            bracket = self.narrowed(bracket, height, high - (SLACK - _MARGIN), high)
            place = math.log(math.floor(math.exp(bracket.kept.place) + 1e-9)) if self.whole else bracket.kept.place
            if self.exactly(place) <= 0:
                return place
            high -= _MARGIN
            bracket = Bracket(Point(2 * place - bracket.beyond.place, -math.inf), Point(place, 0.0))
        return None


def _neighbours(first: Point, second: Point) -> bool:
    return abs(math.floor(math.exp(first.place)) - math.floor(math.exp(second.place))) <= 1


def _between(kept: Point, beyond: Point, aim: float, *, bisect: bool) -> float:
    share = 0.5
    if not bisect and math.isfinite(kept.height) and math.isfinite(beyond.height) and beyond.height > kept.height:
        share = min(0.97, max(0.03, (aim - kept.height) / (beyond.height - kept.height)))
    return kept.place + share * (beyond.place - kept.place)
