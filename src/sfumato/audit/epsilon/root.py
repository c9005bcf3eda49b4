"""Root of a decreasing or increasing function, typed as one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from scipy.optimize import brentq


def root(function: Callable[[float], float], low: float, high: float, precision: float) -> float:
    """x in [low, high] with function(x) = 0; the signs at both ends must differ (Brent's method)."""
    found: Any = brentq(function, low, high, xtol=precision)
    return float(cast(float, found))
