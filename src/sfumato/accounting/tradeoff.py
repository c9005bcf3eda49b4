"""The curve that a guarantee permits: how often an attacker may be right, at each rate of false alarms.

Pure functions over deltas. If mechanisms are (epsilon, delta(epsilon))-DP for every epsilon, then any test between
neighbouring data sets has TPR <= delta + e^epsilon FPR and TPR <= 1 - e^-epsilon (1 - delta - FPR) (Kairouz, Oh,
Viswanath 2015); the least of all these lines is the curve (Dong, Roth, Su 2022, Proposition 2.12).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sfumato.accounting.accountants.base import one_relation
from sfumato.accounting.accountants.pld import PLD, Composed
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.errors import UsageError
from sfumato.types import Floats
from sfumato.validate import at_least

if TYPE_CHECKING:
    from sfumato.accounting.guarantee import Guarantee

_LINES = 3000
_CERTAIN = 1 - 1e-6
_RESOLVED = 1e-9  # false-positive rates from here on are bounded tightly


def tpr_bound(of: Guarantee | Sequence[Mechanism], fprs: npt.ArrayLike, group_size: int = 1) -> Floats:
    """[fprs] the highest true-positive rate that any attack can have, at each false-positive rate.

    The attacker knows everything but which of two data sets was used, and either may count as the positive one. They
    differ by `group_size` changes of the mechanisms' adjacency. A game between training sets of fixed size exchanges
    units: take `adjacency.swaps`.

    Args:
        of: a guarantee, or mechanisms that all ran.
        fprs: [fprs] false-positive rates in [0, 1].
        group_size: number of changes; the curve is applied that often (Dong, Roth, Su 2022, Theorem 2.14).

    Raises:
        UsageError: if a rate is outside [0, 1], or `group_size` is below 1.
    """
    rates = np.asarray(fprs, dtype=np.float64)
    if not np.all((rates >= 0) & (rates <= 1)):
        raise UsageError("Expected false-positive rates from 0 to 1, got others.", remedy="Give shares, not percents.")
    at_least("group_size", group_size, 1)
    mechanisms = of if isinstance(of, Sequence) else of.mechanisms
    one_relation(mechanisms)
    running = [mechanism for mechanism in mechanisms if mechanism.steps]
    if not running:
        return rates
    if any(mechanism.silent for mechanism in running):
        return np.ones_like(rates)
    epsilons, deltas = lines(PLD().composed(running, _RESOLVED))
    for _ in range(group_size):
        rates = least(rates, epsilons, deltas)
        if np.all(rates >= _CERTAIN):  # further changes only add to it
            return np.ones_like(rates)
    return rates


def lines(loss: Composed) -> tuple[Floats, Floats]:
    """Epsilons from 0 to where delta vanishes, and the delta of each."""
    highest = max((order.lowest + len(order.masses)) * order.interval for order in loss)
    spread = np.linspace(0.0, max(highest, 1e-6), _LINES)
    return spread, loss.delta(spread)


def least(fprs: Floats, epsilons: Floats, deltas: Floats) -> Floats:
    """[fprs] the least of the two lines of every (epsilon, delta), and of the certain bound 1."""
    found = np.ones(fprs.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        for epsilon, delta in zip(epsilons, deltas):
            rising = delta + np.where(fprs > 0, np.exp(epsilon) * fprs, 0.0)
            mirrored = 1 - np.exp(-epsilon) * (1 - delta - fprs)
            found = np.minimum(found, np.minimum(rising, mirrored))
    return np.maximum(found, fprs)
