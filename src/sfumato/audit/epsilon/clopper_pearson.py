"""Distribution-free lower bound on epsilon from the errors of independent trials.

An (epsilon, delta)-DP algorithm keeps 1 - FNR - delta <= e^epsilon FPR and 1 - FPR - delta <= e^epsilon FNR
(Kairouz 2015, 1311.0776); Clopper-Pearson limits of both error rates turn that into a bound (Jagielski 2020,
2006.07709, section 4; Nasr 2021, 2101.04535, section II-C).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.audit.epsilon.bound import (
    ONE_TRIAL_EACH,
    EpsilonBound,
    checked_delta,
    require_independent_trials,
)
from sfumato.audit.epsilon.thresholds import AbstractThresholdChoice, ErrorCounts, checked_pair
from sfumato.audit.statistics.intervals import checked_confidence, clopper_pearson_upper

Floats = NDArray[np.float64]


def epsilon_from_counts(counts: ErrorCounts, alpha: float, delta: float) -> Floats:
    """The bound at thresholds fixed in advance, before it is cut at 0; -inf where nothing is shown.

    max( ln((1 - u(FN) - delta) / u(FP)), ln((1 - u(FP) - delta) / u(FN)) ), each limit u at alpha / 2.
    """
    missed = clopper_pearson_upper(counts.false_negatives, counts.members, alpha / 2)
    caught = clopper_pearson_upper(counts.false_positives, counts.nonmembers, alpha / 2)
    return np.maximum(_log_ratio(1 - missed - delta, caught), _log_ratio(1 - caught - delta, missed))


def clopper_pearson_bound(
    scores_members: ArrayLike,
    scores_nonmembers: ArrayLike,
    choice: AbstractThresholdChoice,
    *,
    independent_trials: bool,
    delta: float,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
) -> EpsilonBound:
    """Lower bound on epsilon that assumes nothing about the scores' distribution.

    Args:
        scores_members: [n_members], each from its own training run with its canary in.
        scores_nonmembers: [n_nonmembers], each from its own run with the canary out.
        choice: how the threshold is chosen, and so paid for.
        independent_trials: state True only if each score is one (canary, training run) of its own. Many
            canaries of one run are not independent trials, and what this returned would not be a bound.
        delta: of the (epsilon, delta)-DP that is tested, in [0, 1).
        confidence: probability that the bound does not exceed the truth.
        rng: needed by the choices that split.

    Raises:
        UsageError: `independent_trials` is not True, a class is empty, a score is NaN.
    """
    require_independent_trials(independent_trials)
    checked_delta(delta)
    scores = checked_pair(scores_members, scores_nonmembers)
    alpha = 1 - checked_confidence(confidence)
    certified = choice.certify(scores, lambda counts, level: epsilon_from_counts(counts, level, delta), alpha, rng)
    return EpsilonBound(
        value=max(certified.value, 0.0),
        ceiling=max(certified.ceiling, 0.0),
        confidence=confidence,
        delta=delta,
        method=f"Clopper-Pearson, {choice.label}",
        assumption=ONE_TRIAL_EACH,
        n=scores.members.size + scores.nonmembers.size,
        detail=certified.detail,
    )


def clopper_pearson_ceiling(members: int, nonmembers: int, *, delta: float, confidence: float = 0.95) -> float:
    """What a perfect attacker certifies with so many trials and a threshold fixed in advance."""
    none = np.asarray(0.0)
    counts = ErrorCounts(none, members, none, nonmembers)
    return max(float(epsilon_from_counts(counts, 1 - checked_confidence(confidence), checked_delta(delta))), 0.0)


def _log_ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(above, 0.0)) - np.log(below)
