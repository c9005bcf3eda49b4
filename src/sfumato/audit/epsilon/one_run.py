"""Lower bound on epsilon from many canaries in one training run (Steinke, Nasr, Jagielski 2023, 2305.08846)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrc, expit

from sfumato.audit.epsilon.bound import EpsilonBound, checked_delta, require_fair_coins
from sfumato.audit.epsilon.guesses import GuessCounts, Guesses, best_over_counts, check_outcome
from sfumato.audit.epsilon.root import root
from sfumato.audit.statistics.intervals import checked_confidence

FAIR_COINS = "each canary was included by an independent fair coin; neighbours add or remove one canary"
_HIGHEST = 1e4


def one_run_p_value(outcome: Guesses, epsilon: float, delta: float) -> float:
    """Chance, at most, that (epsilon, delta)-DP lets so many guesses be correct (theorem 5.2).

    With W ~ Bin(r, e^epsilon / (1 + e^epsilon)): P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i.
    """
    check_outcome(outcome)
    q, r, v = float(expit(epsilon)), outcome.guesses, outcome.correct
    beta = _at_least(v, r, q)
    if delta == 0 or v == 0:
        return min(beta, 1.0)
    steps = np.arange(1, v + 1)
    alpha = np.max((_tail(v - steps, r, q) - beta) / steps)
    return float(min(beta + 2 * outcome.canaries * delta * alpha, 1.0))


def one_run_epsilon(outcome: Guesses, alpha: float, delta: float) -> float:
    """The largest epsilon >= 0 that `outcome` rejects at level `alpha`; 0 where it rejects none."""

    def excess(epsilon: float) -> float:
        return one_run_p_value(outcome, epsilon, delta) - alpha

    if excess(0.0) >= 0:
        return 0.0
    most = 1.0
    while excess(most) < 0 and most < _HIGHEST:
        most *= 2
    return root(excess, 0.0, most, 1e-9) if excess(most) >= 0 else most


def one_run_bound(
    scores: ArrayLike,
    included: ArrayLike,
    guess_counts: Sequence[GuessCounts],
    *,
    independent_coins: bool,
    delta: float,
    confidence: float = 0.95,
) -> EpsilonBound:
    """Lower bound on epsilon from the scores of m canaries in one run.

    Args:
        scores: [canaries], higher = included.
        included: booleans [canaries], the coins.
        guess_counts: how many to guess in and out, one or several, written down before the scores were seen;
            alpha is shared among them.
        independent_coins: state True only if each canary was included by its own fair coin.
        delta: of the (epsilon, delta)-DP tested (add or remove one), in [0, 1).
        confidence: probability that the bound does not exceed the truth.

    Raises:
        UsageError: coins are not declared fair, shapes differ, a score is NaN, too many guesses.
    """
    require_fair_coins(independent_coins)
    checked_delta(delta)
    best = best_over_counts(
        scores, included, guess_counts,
        lambda outcome, level: one_run_epsilon(outcome, level, delta), 1 - checked_confidence(confidence),
    )  # fmt: skip
    return EpsilonBound(
        value=best.value,
        ceiling=best.ceiling,
        confidence=confidence,
        delta=delta,
        method="one run (Steinke 2023)",
        assumption=FAIR_COINS,
        n=best.outcome.canaries,
        detail={**best.counts._asdict(), **best.outcome._asdict(), "counts_listed": len(guess_counts)},
    )


def _tail(k: np.ndarray, n: int, q: float) -> np.ndarray:
    """P[Bin(n, q) >= k] for counts k [any shape]."""
    return np.where(k <= 0, 1.0, bdtrc(np.maximum(k, 1) - 1, n, q))


def _at_least(k: int, n: int, q: float) -> float:
    return float(_tail(np.asarray(k), n, q))
