"""One-run bound under a hypothesised Gaussian trade-off curve (Mahloujifar 2024, 2410.22235)."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from sfumato.audit.epsilon.bound import EpsilonBound, checked_delta, require_fair_coins
from sfumato.audit.epsilon.gaussian_dp import GDP_ASSUMED, mu_to_epsilon
from sfumato.audit.epsilon.guesses import GuessCounts, Guesses, best_over_counts, check_outcome
from sfumato.audit.epsilon.one_run import FAIR_COINS
from sfumato.audit.statistics.intervals import checked_confidence

_HIGHEST_MU = 1e3
_SHORTEST_STEP = 1e-9


def rejects_mu(outcome: Guesses, mu: float, alpha: float) -> bool:
    """Whether so many correct guesses refute mu-GDP at level `alpha` (algorithm 2, k = 2 choices per canary).

    r and h are the largest shares of canaries that could be right and wrong in the worst tail of probability
    alpha, walked down from `correct`; the inverse blow-up of a Gaussian curve is b(t) = Phi(Phi^-1(t) - mu).
    """
    check_outcome(outcome)
    m, made, correct = outcome.canaries, outcome.guesses, outcome.correct
    right, wrong = alpha * correct / m, alpha * (made - correct) / m
    for i in range(correct - 1, -1, -1):
        raised = max(wrong, float(ndtr(ndtri(min(right, 1.0)) - mu)))
        if raised == wrong:
            break  # Neither share can change any more.
        right += i / (made - i) * (raised - wrong)
        wrong = raised
    return right + wrong > made / m


def one_run_mu(outcome: Guesses, alpha: float) -> float:
    """The largest mu >= 0 that `outcome` rejects at level `alpha`, by bisection; 0 where it rejects none."""
    if not rejects_mu(outcome, 0.0, alpha):
        return 0.0
    low, high = 0.0, 1.0
    while rejects_mu(outcome, high, alpha) and high < _HIGHEST_MU:
        low, high = high, 2 * high
    while high - low > _SHORTEST_STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if rejects_mu(outcome, middle, alpha) else (low, middle)
    return low


def one_run_f_dp_epsilon(outcome: Guesses, alpha: float, delta: float) -> float:
    """`one_run_mu` as an epsilon at `delta` in (0, 1)."""
    return mu_to_epsilon(one_run_mu(outcome, alpha), delta)


def one_run_f_dp_bound(
    scores: ArrayLike,
    included: ArrayLike,
    guess_counts: Sequence[GuessCounts],
    *,
    independent_coins: bool,
    delta: float,
    confidence: float = 0.95,
) -> EpsilonBound:
    """Lower bound on epsilon from one run if the mechanism is mu-GDP for some mu.

    Tighter than `one_run_bound`; arguments and errors are the same, `delta` must be above 0.
    """
    require_fair_coins(independent_coins)
    checked_delta(delta, positive=True)
    best = best_over_counts(scores, included, guess_counts, one_run_mu, 1 - checked_confidence(confidence))
    return EpsilonBound(
        value=mu_to_epsilon(best.value, delta),
        ceiling=mu_to_epsilon(best.ceiling, delta),
        confidence=confidence,
        delta=delta,
        method="one run, f-DP (Mahloujifar 2024)",
        assumption=f"{GDP_ASSUMED}; {FAIR_COINS}",
        n=best.outcome.canaries,
        detail={
            **best.counts._asdict(), **best.outcome._asdict(),
            "counts_listed": len(guess_counts), "mu": best.value,
        },
    )  # fmt: skip
