"""The privacy loss of one noisy step, rounded onto a grid so that it can only grow.

The distribution of ln(P(o)/Q(o)) for o drawn from P is put on whole multiples of an interval by Connect-the-Dots
(Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, Algorithm 1), which keeps the mass of both P and Q between two grid
points and is the best pessimistic choice for these points. dp-accounting uses every multiple; here the points grow
apart with the loss, which costs a hundredth of the time, and can only make the bound larger.

All noise stands in units of the clipping norm: one unit of privacy moves the sum by at most 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr

from sfumato.types import Floats, Ints

REACH = 16.0  # standard deviations of noise that are told apart; beyond lies a mass below e^-130
_SPREAD = 0.01  # grid points stand at most this share of their loss apart
_STEP = 0.02  # and at most this share of the noise's own spread of losses


class StepLoss(NamedTuple):
    """A discrete privacy loss.

    Args:
        interval: one grid unit of loss.
        positions: [points] losses in grid units, increasing.
        masses: [points] probability of each.
        infinite: probability of an unbounded loss.
    """

    interval: float
    positions: Ints
    masses: Floats
    infinite: float


class Losses(NamedTuple):
    """The loss of one step in both orders: the unit is in the first data set, or in the second."""

    removed: StepLoss
    added: StepLoss

    @property
    def symmetric(self) -> bool:
        """Whether both orders lose alike."""
        return self.removed is self.added


def sampled_gaussian(noise: float, rate: float, interval: float) -> Losses:
    """Losses of a Gaussian step on a Poisson sample, one unit added or removed.

    P = (1-q) N(0, s^2) + q N(1, s^2) against Q = N(0, s^2), and the other order (Zhu, Dong, Wang 2022, Theorem 11).

    Args:
        noise: s, standard deviation over the clipping norm, above 0.
        rate: q, probability that a unit takes part, in (0, 1].
        interval: grid unit.
    """
    nearest = -REACH * noise if rate < 1 else 1 - REACH * noise
    ends = _loss(np.array([nearest, 1 + REACH * noise]), noise, rate)
    points = _points(float(ends[0]), float(ends[1]), interval, _STEP / noise)
    edges = _outcome(points * interval, noise, rate)
    without, shifted = _masses(edges, noise), _masses(edges - 1, noise)
    mixture = _mixture(without, shifted, rate)
    removed = _connected(points, interval, mixture, without)
    if rate == 1:
        return Losses(removed, removed)
    return Losses(removed, _connected(-points[::-1], interval, without.backwards, mixture.backwards))


def replaced_gaussian(noise: float, rate: float, interval: float) -> Losses:
    """Losses of a Gaussian step on a Poisson sample, one unit replaced by another.

    P = (1-q) N(0, s^2) + q N(1, s^2) against Q = (1-q) N(0, s^2) + q N(-1, s^2); both orders lose alike.
    """
    if rate == 1:  # one shift by 2
        return sampled_gaussian(noise / 2, 1.0, interval)
    reach = 1 + REACH * noise
    top = float((_loss(np.array([reach]), noise, rate) - _loss(np.array([-reach]), noise, rate))[0])
    points = _points(-top, top, interval, _STEP / noise)
    edges = _replaced_outcome(points * interval, noise, rate)
    middle = _masses(edges, noise)
    up = _mixture(middle, _masses(edges - 1, noise), rate)
    down = _mixture(middle, _masses(edges + 1, noise), rate)
    loss = _connected(points, interval, up, down)
    return Losses(loss, loss)


def randomised_response(epsilon: float, classes: int, interval: float, *, special: bool) -> Losses:
    """Losses of one answer about a label that is replaced by another one, or by none.

    The label is answered with probability e^epsilon / (e^epsilon + k - 1), each other one with probability
    1 / (e^epsilon + k - 1); where there is no label, each with probability 1 / k. Losses are rounded up.

    Args:
        epsilon: of the answer, above 0.
        classes: k, from 2.
        interval: grid unit.
        special: whether one side has no label.
    """
    log_total = float(np.logaddexp(epsilon, math.log(classes - 1)))
    own, other = math.exp(epsilon - log_total), math.exp(-log_total)
    if not special:
        loss = _rounded_up([epsilon, 0.0, -epsilon], [own, (classes - 2) * other, other], interval)
        return Losses(loss, loss)
    values = [epsilon - log_total + math.log(classes), math.log(classes) - log_total]
    without = [1 / classes, 1 - 1 / classes]
    return Losses(
        _rounded_up(values, [own, (classes - 1) * other], interval),
        _rounded_up([-value for value in values], without, interval),
    )


def mixed(first: Losses, second: Losses, weight: float) -> Losses:
    """Losses of a step that is the `first` with probability `weight`, else the `second`, and says which."""
    removed = _joined(first.removed, second.removed, weight)
    if first.symmetric and second.symmetric:
        return Losses(removed, removed)
    return Losses(removed, _joined(first.added, second.added, weight))


def trimmed(loss: StepLoss, mass: float) -> StepLoss:
    """The loss without its far ends: up to `mass` at the top counts as unbounded, as much at the bottom is raised."""
    top = len(loss.masses) - int(np.searchsorted(np.cumsum(loss.masses[::-1]), mass))
    bottom = int(np.searchsorted(np.cumsum(loss.masses), mass))
    if bottom >= top:
        return loss
    masses = loss.masses[bottom:top].copy()
    masses[0] += loss.masses[:bottom].sum()
    beyond = float(loss.masses[top:].sum())
    return StepLoss(loss.interval, loss.positions[bottom:top], masses, loss.infinite + beyond)


def _rounded_up(values: list[float], masses: list[float], interval: float) -> StepLoss:
    """A few losses with their masses, each on the next grid point above."""
    positions, where = np.unique(np.ceil(np.array(values) / interval).astype(np.int64), return_inverse=True)
    together = np.zeros(len(positions))
    np.add.at(together, where, masses)
    return StepLoss(interval, positions, together, 0.0)


def _joined(first: StepLoss, second: StepLoss, weight: float) -> StepLoss:
    positions, where = np.unique(np.concatenate([first.positions, second.positions]), return_inverse=True)
    masses = np.zeros(len(positions))
    np.add.at(masses, where, np.concatenate([weight * first.masses, (1 - weight) * second.masses]))
    return StepLoss(first.interval, positions, masses, weight * first.infinite + (1 - weight) * second.infinite)


def _loss(outcome: Floats, noise: float, rate: float) -> Floats:
    plain = (outcome - 0.5) / noise**2
    return plain if rate == 1 else np.logaddexp(math.log1p(-rate), math.log(rate) + plain)


def _outcome(losses: Floats, noise: float, rate: float) -> Floats:
    """Where the loss is taken; -inf for losses that no outcome has."""
    if rate == 1:
        return losses * noise**2 + 0.5
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # ln((e^l - 1 + q) / q), without leaving the range of floats for large l
        small = np.log(np.maximum((np.expm1(np.minimum(losses, 50.0)) + rate) / rate, 0.0))
        large = losses - math.log(rate) + np.log1p((rate - 1) * np.exp(-np.maximum(losses, 1.0)))
    return np.where(losses < 50, small, large) * noise**2 + 0.5


def _replaced_outcome(losses: Floats, noise: float, rate: float) -> Floats:
    """Inverse of the loss between the two mixtures, rate below 1: odd, in closed form."""
    size = np.abs(losses)
    with np.errstate(divide="ignore"):
        log_sinh = size / 2 + np.log1p(-np.exp(-size)) - math.log(2)
    scaled = log_sinh + 0.5 / noise**2 + math.log1p(-rate) - math.log(rate)
    arcsinh = np.logaddexp(0.5 * np.logaddexp(0.0, 2 * scaled), scaled)
    return np.sign(losses) * noise**2 * (arcsinh + size / 2)


def _points(low: float, high: float, interval: float, widest: float) -> Ints:
    """[points] whole multiples of the interval that cover [low, high], farther apart the larger the loss."""
    bottom, top = math.floor(low / interval), math.ceil(high / interval)
    fine = math.ceil(1 / _SPREAD)
    farthest, turn = max(abs(bottom), abs(top)), max(fine, int(widest / (_SPREAD * interval)))
    ladder = [np.arange(0, fine + 1, dtype=np.float64)]
    last = float(min(turn, farthest))
    if last > fine:
        ladder.append(np.geomspace(fine, last, math.ceil(math.log(last / fine) / math.log1p(_SPREAD)) + 1))
    positive = _distinct(np.concatenate(ladder).astype(np.int64))
    points = np.concatenate([-positive[:0:-1], positive])
    stride = max(1, int(widest / interval))
    outer = [np.arange(max(bottom, turn), top + stride, stride), -np.arange(max(-top, turn), -bottom + stride, stride)]
    points = np.concatenate([points, *outer, [bottom, top]]).astype(np.int64)
    return _distinct(points[(points >= bottom) & (points <= top)])


def _distinct(points: Ints) -> Ints:
    ordered = np.sort(points)
    return ordered[np.append(True, np.diff(ordered) > 0)]


class _Cells(NamedTuple):
    """Masses of the cells between edges, outer cells included; logarithms beside, for what underflows."""

    mass: Floats
    log: Floats

    @property
    def backwards(self) -> _Cells:
        return _Cells(self.mass[::-1], self.log[::-1])


def _masses(edges: Floats, noise: float) -> _Cells:
    """Gaussian masses of the cells that the edges cut the line into (one more than edges)."""
    cuts = np.concatenate([[-np.inf], edges / noise, [np.inf]])
    low, high = cuts[:-1], cuts[1:]
    flip = low > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    mass = ndtr(high) - ndtr(low)
    with np.errstate(divide="ignore", invalid="ignore"):
        tiny = log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high)))
        logs = np.where(mass > 1e-280, np.log(mass), np.nan_to_num(tiny, nan=-np.inf))
    return _Cells(mass, logs)


def _mixture(first: _Cells, second: _Cells, rate: float) -> _Cells:
    if rate == 1:
        return second
    logs = np.logaddexp(math.log1p(-rate) + first.log, math.log(rate) + second.log)
    return _Cells((1 - rate) * first.mass + rate * second.mass, logs)


def _connected(points: Ints, interval: float, upper: _Cells, lower: _Cells) -> StepLoss:
    """Connect-the-Dots: each cell's mass goes to its two ends so that both distributions keep theirs.

    Args:
        points: [points] the ends of the cells in grid units.
        interval: grid unit.
        upper: [points + 1] masses under P.
        lower: [points + 1] masses under Q.
    """
    losses = points * interval
    with np.errstate(under="ignore"):
        carried = np.exp(lower.log[1:] + losses)  # of Q, in P's measure at the cell's lower end; no more than P's own
    share = (upper.mass[1:-1] - carried[:-1]) / -np.expm1(-np.diff(losses))
    raised = np.clip(share, 0.0, upper.mass[1:-1])
    masses = np.zeros(len(points))
    masses[1:] += raised
    masses[:-1] += upper.mass[1:-1] - raised
    masses[0] += upper.mass[0]
    beyond = max(0.0, float(upper.mass[-1] - carried[-1]))
    masses[-1] += upper.mass[-1] - beyond
    return StepLoss(interval, points, masses, beyond)
