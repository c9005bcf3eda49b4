"""The discrete Gaussian: exact noise on a grid, for releases of which every bit may be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import ClassVar

import numpy as np
import torch

from sfumato.errors import UsageError
from sfumato.private.noise.kind import NoiseKind
from sfumato.private.noise.source import NoiseSource, finite_std
from sfumato.types import Floats, Ints
from sfumato.validate import in_range

ELEMENTS_PER_PASS = 1 << 16
SLOP = 2.0**-45  # far above the rounding error of the float64 comparisons; what falls inside is settled exactly


@dataclass(frozen=True)
class DiscreteGaussian(NoiseKind):
    """Rounds the sum to a grid and adds an exact discrete Gaussian (Canonne, Kamath and Steinke, arXiv 2004.00010).

    The grid's step is the largest power of two that is at most `granularity` times the noise's standard deviation.
    Samples are exact: float64 only decides comparisons that it can decide, the others (about one in 10^7) are settled
    in exact arithmetic with more random bits. Conversion of the noisy grid point to the dtype of the sum comes after.

    Two neighbouring sums are rounded separately, and may part by one more step in each of P entries, so the clip
    bound must shrink by sqrt(P) steps. (Rounding each unit's contribution before adding would cost half of that, but
    needs a pass over every contribution.) What rounding does not repair is the error of the floating-point sum itself
    (Casacuberta et al., arXiv 2207.10635). The Rényi divergences of the discrete Gaussian are at most those of the
    continuous one (proposition 5), which is what it is accounted as; under Poisson sampling that is an approximation,
    and with `granularity` 2^-20 one of a part in a million of the standard deviation. Takes about 0.3 s per million.

    Args:
        granularity: 2^-30 to 2^-3, the step of the grid in standard deviations of the noise. Coarse grids cost clip
            bound: sqrt(P) times `granularity` should be small against 1 / noise_multiplier.
    """

    name: ClassVar[str] = "discrete-gaussian"
    summary: ClassVar[str] = "Exact Gaussian noise on an integer grid; slow, and closes floating-point attacks."
    reference: ClassVar[str] = "canonne2020discrete"
    bibtex: ClassVar[str] = """@inproceedings{canonne2020discrete,
  author = {Canonne, Clement L. and Kamath, Gautam and Steinke, Thomas},
  title = {The Discrete Gaussian for Differential Privacy},
  booktitle = {Advances in Neural Information Processing Systems 33},
  year = {2020}
}"""

    granularity: float = 2.0**-20

    def __post_init__(self) -> None:
        in_range("granularity", self.granularity, 2.0**-30, 2.0**-3)

    def step(self, std: float) -> float:
        """The grid's step, a power of two, for noise of standard deviation `std` above 0."""
        finite_std(std)
        return 2.0 ** (math.frexp(std * self.granularity)[1] - 1)

    def add(self, sum_: torch.Tensor, std: float, source: NoiseSource) -> torch.Tensor:
        finite_std(std)
        flat = source.flat(sum_)
        if std == 0:
            return sum_
        step = self.step(std)
        for piece in flat.split(ELEMENTS_PER_PASS):
            grid = _to_grid(piece, step)
            grid += torch.from_numpy(sample(len(piece), Fraction(std) / Fraction(step), source))
            piece.copy_(grid.double() * step)
        return sum_

    def sensitivity_slack(self, parameters: int, std: float) -> float:
        return math.sqrt(parameters) * self.step(std) if std > 0 else 0.0


def _to_grid(values: torch.Tensor, step: float) -> torch.Tensor:
    """int64 [n]: the nearest grid points; division by a power of two is exact."""
    grid = torch.round(values.detach().cpu().double() / step)
    if not bool((grid.abs() < 2.0**52).all()):
        raise UsageError(
            f"Expected finite sums below {2.0**52 * step:.3g}, got {float(values.abs().max()):.3g}.",
            remedy="Leave non-finite units out of the sum, or choose a coarser `granularity`.",
        )
    return grid.to(torch.int64)


def sample(n: int, sigma: Fraction, source: NoiseSource) -> Ints:
    """int64 [n]: independent draws with probability proportional to exp(-x^2 / (2 sigma^2)) (algorithm 3)."""
    found = np.empty(0, dtype=np.int64)
    while len(found) < n:
        tries = int((n - len(found)) * 1.4) + 16  # 0.76 of them are accepted at large sigma
        found = np.concatenate([found, _accepted(tries, sigma, source)])
    return found[:n]


def _accepted(tries: int, sigma: Fraction, source: NoiseSource) -> Ints:
    scale = math.floor(sigma) + 1
    size = _geometric(source.words(tries), scale, source)
    coins = source.words(tries)  # the lowest bit is the sign, the others accept or reject
    minus = (coins & np.uint64(1)).astype(bool)
    kept = _below_exp(coins >> np.uint64(1), size, scale, sigma, source)
    kept &= ~(minus & (size == 0))  # else 0 would come twice as often
    return np.where(minus, -size, size)[kept]


def _geometric(words: Ints, scale: int, source: NoiseSource) -> Ints:
    """int64 [n]: floor(-scale log U) for real uniforms U that begin with `words`: P(X >= k) = exp(-k / scale)."""
    with np.errstate(divide="ignore"):
        logs = 64 * math.log(2) - np.log(words.astype(np.float64))
    margin = scale * (SLOP * (1 + logs) + 4.0 / np.maximum(words, 1))
    value = scale * logs
    unsure = ~(np.floor(value - margin) == np.floor(value + margin)) | (words == 0)
    size = np.where(unsure, 0, np.floor(value)).astype(np.int64)
    for place in np.flatnonzero(unsure):
        size[place] = _exact_geometric(int(words[place]), scale, source)
    return size


def _below_exp(words: Ints, size: Ints, scale: int, sigma: Fraction, source: NoiseSource) -> np.ndarray:
    """bool [n]: whether uniforms beginning with 63-bit `words` are below exp(-(size - sigma^2/scale)^2 / 2 sigma^2)."""
    centre, uniform = float(sigma * sigma / scale), words * 2.0**-63
    exponent: Floats = (size - centre) ** 2 / (2 * float(sigma) ** 2)
    limit = np.exp(-exponent)
    margin = limit * SLOP * (1 + exponent) + 2.0**-50
    below = uniform < limit
    for place in np.flatnonzero(np.abs(uniform - limit) <= margin):
        exact = (int(size[place]) - sigma * sigma / scale) ** 2 / (2 * sigma * sigma)
        below[place] = _exact_below_exp(int(words[place]), exact, source)
    return below


def _exact_geometric(word: int, scale: int, source: NoiseSource) -> int:
    bits, digits = 64, 60
    while True:
        with localcontext() as context:  # Decimal.ln and Decimal.exp are correctly rounded
            context.prec = digits
            slop, size = Decimal(10) ** (12 - digits), Decimal(2) ** bits
            high = math.floor(scale * (size.ln() - Decimal(max(word, 1)).ln()) + slop)
            low = math.floor(scale * (size.ln() - Decimal(word + 1).ln()) - slop)
        if low == high and word > 0:
            return low
        word, bits, digits = (word << 64) | int(source.words(1)[0]), bits + 64, digits + 20


def _exact_below_exp(word: int, exponent: Fraction, source: NoiseSource) -> bool:
    bits, digits = 63, 60
    while True:
        with localcontext() as context:
            context.prec = digits
            limit = (-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()
            slop = limit * Decimal(10) ** (12 - digits)
            low, high = (Decimal(w) / Decimal(2) ** bits for w in (word, word + 1))
            if high < limit - slop:
                return True
            if low > limit + slop:
                return False
        word, bits, digits = (word << 64) | int(source.words(1)[0]), bits + 64, digits + 20
