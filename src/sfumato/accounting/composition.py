"""Many steps together: the sum of their privacy losses, by Fourier transform, never too small.

The transform runs on masses tilted by e^(order * loss), so that the part of the distribution that decides about a small
delta is computed with all digits. What lies outside the window is bounded by Chernoff and added to delta, and so is
what the transform may have rounded away (Koskela, Jälkö, Honkela 2020; Gopi, Lee, Wutschitz 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from sfumato.accounting.privacy_loss import StepLoss
from sfumato.types import Floats

UNTILTED_TAIL, TILTED_TAIL = 1e-15, 1e-12
_ORDERS = np.logspace(-1.5, 1.0, 14)


class Part(NamedTuple):
    """`times` independent steps with the same loss."""

    loss: StepLoss
    times: int


class Spread(NamedTuple):
    """Where the composed loss lies: outside [low, high] only with the probability asked for on each side.

    `order` is the one at which `high` was found.
    """

    low: float
    high: float
    order: float


@dataclass(frozen=True)
class ComposedLoss:
    """The loss of all steps together, in one order.

    Args:
        interval: grid unit.
        lowest: the first grid point, in units.
        masses: [points] probability of each following grid point, times e^(tilt * loss - log_scale).
        infinite: probability of unbounded loss.
        doubt: probability, tilted like the masses, that may be missing above any point.
        tilt: 0 for plain probabilities; else deltas hold near the epsilon for which the tilt was chosen.
        log_scale: logarithm of what the tilted masses were divided by.
    """

    interval: float
    lowest: int
    masses: Floats
    infinite: float
    doubt: float
    tilt: float = 0.0
    log_scale: float = 0.0

    def delta(self, epsilons: Floats) -> Floats:
        """[epsilons] the hockey-stick divergence at each epsilon: the delta of (epsilon, delta)-DP, in this order."""
        epsilons = np.asarray(epsilons, dtype=np.float64)
        place = np.ceil(epsilons / self.interval - 1e-9) - self.lowest
        index = np.clip(place, 0, len(self.masses)).astype(np.int64)
        losses = (self.lowest + index) * self.interval
        above, discounted = self._sums()
        found = above[index] + self.doubt - np.exp(np.minimum(epsilons - losses, 0.0)) * discounted[index]
        return np.clip(found * np.exp(np.minimum(self.log_scale - self.tilt * losses, 700.0)) + self.infinite, 0.0, 1.0)

    def epsilon(self, delta: float) -> float:
        """The smallest epsilon whose delta is at most `delta`; -inf where it lies below the grid, inf where none is."""
        above, discounted = self._sums()
        losses = (self.lowest + np.arange(len(above))) * self.interval
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.exp(self.log_scale - self.tilt * losses)
            enough = np.flatnonzero((above + self.doubt - discounted) * scale + self.infinite <= delta)
        if len(enough) == 0:
            return math.inf
        index = int(enough[0])
        if index == 0:
            return -math.inf
        excess = above[index] + self.doubt + (self.infinite - delta) / scale[index] if scale[index] > 0 else 0.0
        if excess <= 0 or discounted[index] <= 0:  # the masses end here
            return float(losses[index])
        return float(losses[index] + min(0.0, math.log(excess / discounted[index])))

    def doubt_at(self, epsilon: float) -> float:
        """How much of the delta at `epsilon` makes up for rounding."""
        return self.doubt * math.exp(min(700.0, self.log_scale - self.tilt * epsilon))

    def _sums(self) -> tuple[Floats, Floats]:
        """[points + 1] masses from each point on, untilted relative to it; plain, and divided by e^(loss - its own)."""
        backwards = np.append(0.0, self.masses[::-1])
        rates = (self.tilt, self.tilt + 1)
        sums = [lfilter([1.0], [1.0, -math.exp(-rate * self.interval)], backwards) for rate in rates]
        return np.asarray(sums[0])[::-1], np.asarray(sums[1])[::-1]


def epsilon_of_one(loss: StepLoss, delta: float) -> float:
    """The smallest epsilon from 0 for a single step whose delta is at most `delta`; inf where none is."""
    if loss.infinite > delta:
        return math.inf
    losses, masses = loss.positions * loss.interval, loss.masses
    with np.errstate(divide="ignore"):
        discounted = np.logaddexp.accumulate((np.log(masses) - losses)[::-1])[::-1]
    above = loss.infinite + np.cumsum(masses[::-1])[::-1]
    enough = np.flatnonzero(above - np.exp(np.minimum(losses + discounted, 700.0)) <= delta)
    index = int(enough[0]) if len(enough) else len(losses) - 1
    if above[index] <= delta or not math.isfinite(discounted[index]):
        return max(0.0, float(losses[max(index - 1, 0)]))
    return max(0.0, math.log(above[index] - delta) - float(discounted[index]))


def chernoff(parts: Sequence[Part], log_delta: float) -> Spread:
    """Bounds of the composed finite loss that hold but with probability e^`log_delta` on each side, by Chernoff."""
    unit = parts[0].loss.interval
    bottom = sum(part.times * int(part.loss.positions[0]) for part in parts) * unit
    top = sum(part.times * int(part.loss.positions[-1]) for part in parts) * unit
    spread = math.sqrt(sum(part.times * _variance(part.loss) for part in parts))
    if spread == 0:
        return Spread(bottom, top, 0.0)
    farthest = max(float(np.abs(part.loss.positions[[0, -1]]).max()) for part in parts) * unit
    scales = (math.sqrt(-2 * log_delta) / spread, -log_delta / farthest)  # for many small losses, for few large ones
    orders = np.concatenate([_ORDERS * scale for scale in scales])
    highs = (_cumulant(parts, orders) - log_delta) / orders
    low = np.max((_cumulant(parts, -orders) - log_delta) / -orders)
    best = int(np.argmin(highs))
    return Spread(max(float(low), bottom), min(float(highs[best]), top), float(orders[best]))


def _variance(loss: StepLoss) -> float:
    values = loss.positions * loss.interval
    return max(0.0, float(values**2 @ loss.masses - (values @ loss.masses) ** 2))


def _cumulant(parts: Sequence[Part], orders: Floats) -> Floats:
    return np.sum([part.times * _log_moments(part.loss, orders) for part in parts], axis=0)


def _log_moments(loss: StepLoss, orders: Floats) -> Floats:
    """[orders] ln of the mean of e^(order * loss) over the finite losses."""
    present = loss.masses > 0
    exponents = orders[:, None] * (loss.positions[present] * loss.interval) + np.log(loss.masses[present])
    largest = exponents.max(axis=1)
    return largest + np.log(np.exp(exponents - largest[:, None]).sum(axis=1))


def tilted(loss: StepLoss, order: float) -> StepLoss:
    """The finite loss with masses proportional to e^(order * loss), summing to 1."""
    if order == 0:
        return loss
    with np.errstate(divide="ignore"):
        logs = order * loss.positions * loss.interval + np.log(loss.masses)
    return loss._replace(masses=np.exp(logs - _log_moments(loss, np.array([order]))[0]))


def window(parts: Sequence[Part], order: float = 0.0) -> Spread:
    """The losses that `composed` computes."""
    tail = TILTED_TAIL if order else UNTILTED_TAIL
    return chernoff([Part(tilted(loss, order), times) for loss, times in parts], math.log(tail))


def _fast(size: int) -> int:
    """The least length from `size` that a Fourier transform takes quickly."""
    power = 1 << max(3, (size - 1).bit_length())
    return min(length for length in (power, power // 4 * 3, power // 8 * 5) if length >= size)


def composed(parts: Sequence[Part], order: float, spread: Spread) -> ComposedLoss:
    """The loss of all parts together.

    Args:
        parts: on one grid; at least one step in all.
        spread: the `window` of the parts at this order.
        order: of the tilt; half of that of `chernoff` at a delta makes results near this delta precise, and keeps the
            window short where few steps lose much. 0 serves all deltas.
    """
    interval = parts[0].loss.interval
    lowest, highest = math.floor(spread.low / interval), math.ceil(spread.high / interval)
    size = _fast(highest - lowest + 2)
    logs, turns, rounding = np.zeros(size // 2 + 1), np.zeros(size // 2 + 1), 8.0
    for loss, times in parts:
        folded = np.bincount(loss.positions % size, tilted(loss, order).masses, size)
        folded[0] -= 1.0  # steps that lose next to nothing keep all their digits
        values = np.fft.rfft(folded)
        with np.errstate(divide="ignore"):
            logs += times * 0.5 * np.log1p(np.maximum(2 * values.real + values.real**2 + values.imag**2, -1.0))
        turns += times * np.arctan2(values.imag, 1 + values.real)
        rounding += times * float(np.linalg.norm(folded))
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    heard = logs > -80  # the others are below rounding
    spectrum[heard] = np.exp(logs[heard] + 1j * turns[heard])
    masses = np.roll(np.fft.irfft(spectrum, size), -(lowest % size))
    return ComposedLoss(
        interval=interval,
        lowest=lowest,
        masses=np.maximum(masses, 0.0),
        infinite=-math.expm1(sum(times * math.log1p(-min(loss.infinite, 1 - 1e-16)) for loss, times in parts)),
        doubt=2 * (TILTED_TAIL if order else UNTILTED_TAIL) + rounding * float(np.finfo(np.float64).eps),
        tilt=order,
        log_scale=float(_cumulant(parts, np.array([order]))[0]) if order else 0.0,
    )
