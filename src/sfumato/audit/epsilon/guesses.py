"""From canary scores of one training run to guesses, right or abstained: what both one-run bounds start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.audit.statistics.roc import checked_scores
from sfumato.errors import UsageError


class GuessCounts(NamedTuple):
    """How many canaries to call in (the highest scores) and out (the lowest); written down in advance."""

    k_plus: int
    k_minus: int


class Guesses(NamedTuple):
    """The outcome: `guesses` made and `correct` ones, among `canaries`."""

    canaries: int
    guesses: int
    correct: int


def guess(scores: ArrayLike, included: ArrayLike, counts: GuessCounts) -> Guesses:
    """Call the k_plus highest scores in and the k_minus lowest out, abstain between (Steinke 2023, algorithm 1).

    Ties are broken by a fixed shuffle of the canaries: by position they would leak the answer wherever
    included canaries are listed first.

    Args:
        scores: of each canary [canaries], higher = included.
        included: booleans [canaries], the outcome of the coins.
        counts: k_plus + k_minus may be at most the number of canaries.
    """
    values, truth = checked_scores("scores", scores).ravel(), np.asarray(included)
    _check(values, truth, counts)
    shuffled = np.random.default_rng(0).permutation(values.size)
    rising = shuffled[np.argsort(values[shuffled], kind="stable")]
    highest = truth[rising[values.size - counts.k_plus :]]
    lowest = truth[rising[: counts.k_minus]]
    correct = int(highest.sum()) + int((~lowest).sum())
    return Guesses(values.size, counts.k_plus + counts.k_minus, correct)


class BestGuess(NamedTuple):
    """The largest bound over the listed counts, what perfect guesses would have given, and which counts won."""

    value: float
    ceiling: float
    outcome: Guesses
    counts: GuessCounts


def best_over_counts(
    scores: ArrayLike,
    included: ArrayLike,
    listed: Sequence[GuessCounts],
    bound: Callable[[Guesses, float], float],
    alpha: float,
) -> BestGuess:
    """The best of `bound(outcome, alpha / len(listed))` over counts listed in advance (Bonferroni)."""
    if not listed:
        raise UsageError("Expected at least one GuessCounts, got none.", remedy="Write one down in advance.")
    share = alpha / len(listed)
    outcomes = [guess(scores, included, counts) for counts in listed]
    values = [bound(outcome, share) for outcome in outcomes]
    best = int(np.argmax(values))
    perfect = {Guesses(o.canaries, o.guesses, o.guesses) for o in outcomes}
    ceiling = max(bound(outcome, share) for outcome in perfect)
    return BestGuess(values[best], ceiling, outcomes[best], listed[best])


def _check(scores: NDArray[np.float64], included: NDArray[np.generic], counts: GuessCounts) -> None:
    if included.dtype != np.bool_ or included.shape != scores.shape:
        raise UsageError(
            f"Expected `included` to be booleans of shape {scores.shape}, got {included.dtype} of {included.shape}.",
            remedy="Pass one True or False per canary.",
        )
    if min(counts) < 0 or not 0 < sum(counts) <= scores.size:
        raise UsageError(
            f"Expected between 1 and {scores.size} guesses, got k_plus={counts.k_plus}, k_minus={counts.k_minus}.",
            remedy="Guess on a share of the canaries, for example 10 % on either end.",
        )


def check_outcome(outcome: Guesses) -> None:
    """Refuse counts that no audit can produce."""
    if not 0 <= outcome.correct <= outcome.guesses <= outcome.canaries or outcome.guesses < 1:
        raise UsageError(
            f"Expected 0 <= correct <= guesses <= canaries and a guess at least, got {outcome}.",
            remedy="Pass Guesses(canaries, guesses, correct).",
        )
