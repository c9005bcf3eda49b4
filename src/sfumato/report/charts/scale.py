"""From values to positions: linear and logarithmic scales with round ticks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from sfumato.report.wording import number


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end] in picture units; values outside are held at the ends.

    Args:
        low: value at `start`; above 0 where `log`.
        high: value at `end`, above `low`.
        start: position of `low`.
        end: position of `high`.
        log: whether equal ratios are equal distances.
        name: writes a tick.
        marks: where ticks stand; empty for round values.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    name: Callable[[float], str] = number
    marks: tuple[float, ...] = ()

    def at(self, value: float) -> float:
        """Position of `value`, to a tenth of a picture unit."""
        held = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(held / self.low) / math.log(self.high / self.low)
        else:
            share = (held - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def moved(self, start: float, end: float) -> Scale:
        """The same values from `start` to `end`."""
        return replace(self, start=start, end=end)

    def ticks(self) -> list[float]:
        """`marks` if given, else powers of ten on a logarithmic scale, about five round values on a linear one."""
        if self.marks:
            return list(self.marks)
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def around(values: list[float], start: float, end: float, name: Callable[[float], str] = number) -> Scale:
    """A linear scale that holds all `values` with a margin of a tenth on both sides."""
    low, high = min(values), max(values)
    margin = (high - low) / 10 or max(abs(high), 1.0) / 20
    return Scale(low - margin, high + margin, start, end, name=name)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
