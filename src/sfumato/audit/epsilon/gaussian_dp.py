"""Gaussian differential privacy: conversion to epsilon, and the bound that assumes its trade-off curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from sfumato.audit.epsilon.bound import (
    ONE_TRIAL_EACH,
    EpsilonBound,
    checked_delta,
    require_independent_trials,
)
from sfumato.audit.epsilon.root import root
from sfumato.audit.epsilon.thresholds import AbstractThresholdChoice, ErrorCounts, checked_pair
from sfumato.audit.statistics.intervals import checked_confidence, clopper_pearson_upper
from sfumato.validate import at_least

Floats = NDArray[np.float64]

GDP_ASSUMED = "GDP-assumed: the trade-off curve is that of a Gaussian mechanism"


def delta_of_mu(mu: float, epsilon: float) -> float:
    """The delta of mu-GDP at this epsilon (Dong 2022, 1905.02383, corollary 2.13).

    delta = Phi(-epsilon / mu + mu / 2) - e^epsilon Phi(-epsilon / mu - mu / 2), in [0, 1].
    """
    at_least("mu", mu, 0.0)
    if mu == 0:
        return 0.0
    high, low = -epsilon / mu + mu / 2, -epsilon / mu - mu / 2
    return float(max(ndtr(high) - np.exp(epsilon + log_ndtr(low)), 0.0))


def mu_to_epsilon(mu: float, delta: float) -> float:
    """The epsilon >= 0 at which mu-GDP is (epsilon, delta)-DP; delta in (0, 1), mu >= 0."""
    checked_delta(delta, positive=True)
    if delta_of_mu(mu, 0.0) <= delta:
        return 0.0
    # At this epsilon the first term alone is already delta, so the root lies below it.
    most = max(mu * (mu / 2 - float(ndtri(delta))), 1e-12)
    return root(lambda epsilon: delta_of_mu(mu, epsilon) - delta, 0.0, most, 1e-12)


def epsilon_to_mu(epsilon: float, delta: float) -> float:
    """The mu >= 0 whose mu-GDP is exactly (epsilon, delta)-DP; inverse of `mu_to_epsilon`, epsilon >= 0."""
    checked_delta(delta, positive=True)
    at_least("epsilon", epsilon, 0.0)
    most = 1.0
    while delta_of_mu(most, epsilon) < delta:
        most *= 2
    return root(lambda mu: delta_of_mu(mu, epsilon) - delta, 0.0, most, 1e-13)


def mu_from_counts(counts: ErrorCounts, alpha: float) -> Floats:
    """Lower bound on mu at thresholds fixed in advance: Phi^-1(1 - u(FP)) - Phi^-1(u(FN)), each at alpha / 2."""
    missed = clopper_pearson_upper(counts.false_negatives, counts.members, alpha / 2)
    caught = clopper_pearson_upper(counts.false_positives, counts.nonmembers, alpha / 2)
    return -ndtri(caught) - ndtri(missed)


def gaussian_dp_bound(
    scores_members: ArrayLike,
    scores_nonmembers: ArrayLike,
    choice: AbstractThresholdChoice,
    *,
    independent_trials: bool,
    delta: float,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
) -> EpsilonBound:
    """Lower bound on epsilon if the mechanism is mu-GDP for some mu (Nasr 2023, 2302.07956, section 5).

    Far tighter than `clopper_pearson_bound`, and no bound at all for a mechanism whose trade-off curve is not
    Gaussian: at another delta, the curve assumed there was never observed.

    Arguments and errors are those of `clopper_pearson_bound`; `delta` must be above 0.
    """
    require_independent_trials(independent_trials)
    checked_delta(delta, positive=True)
    scores = checked_pair(scores_members, scores_nonmembers)
    certified = choice.certify(scores, mu_from_counts, 1 - checked_confidence(confidence), rng)
    mu = max(certified.value, 0.0)
    return EpsilonBound(
        value=mu_to_epsilon(mu, delta),
        ceiling=mu_to_epsilon(max(certified.ceiling, 0.0), delta),
        confidence=confidence,
        delta=delta,
        method=f"Gaussian DP, {choice.label}",
        assumption=f"{GDP_ASSUMED}; {ONE_TRIAL_EACH}",
        n=scores.members.size + scores.nonmembers.size,
        detail={**certified.detail, "mu": mu},
    )
