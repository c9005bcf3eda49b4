"""Confidence intervals in closed form: for a rate, an AUC, a mean and a paired difference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri, stdtrit
from scipy.stats import rankdata

from sfumato.audit.statistics.roc import checked_scores
from sfumato.errors import UsageError
from sfumato.validate import same_length

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Both ends of an interval, included; arrays where the inputs were arrays."""

    low: Floats
    high: Floats


class MeanInterval(NamedTuple):
    """A sample mean with its t interval; `standard_deviation` is that of one value (divisor n - 1)."""

    mean: float
    low: float
    high: float
    standard_deviation: float
    n: int


class AUCInterval(NamedTuple):
    """An AUC with both ends of its interval, all in [0, 1], and its DeLong standard error."""

    value: float
    low: float
    high: float
    standard_error: float


def checked_confidence(confidence: float) -> float:
    """`confidence` itself, refused outside (0, 1): 95 % is 0.95."""
    if not 0 < confidence < 1:
        raise UsageError(f"Expected `confidence` inside (0, 1), got {confidence}.", remedy="Write 95 % as 0.95.")
    return confidence


def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Upper limit of a binomial rate that is too low in at most a share `alpha` of samples.

    u(k, n, a) = Beta^-1(1 - a; k + 1, n - k), and 1 where k = n (Clopper and Pearson 1934). Arguments broadcast.
    """
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    _check_counts(k, n)
    inner = betaincinv(k + 1, np.maximum(n - k, 0.5), 1 - np.asarray(alpha, np.float64))
    return np.where(k < n, inner, 1.0)


def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Lower limit of a binomial rate that is too high in at most a share `alpha` of samples."""
    k, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    return 1 - clopper_pearson_upper(n - k, n, alpha)


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> Interval:
    """Two-sided exact interval of a binomial rate, (1 - confidence) / 2 on each side.

    Valid for independent trials at a threshold fixed before they were seen.
    """
    tail = (1 - checked_confidence(confidence)) / 2
    return Interval(clopper_pearson_lower(successes, trials, tail), clopper_pearson_upper(successes, trials, tail))


def delong(scores_members: ArrayLike, scores_nonmembers: ArrayLike, confidence: float = 0.95) -> AUCInterval:
    """AUC with DeLong's interval (DeLong 1988, eq. 4-5), for independent scores of one target model.

    Where every member outscores every nonmember (or the reverse) the estimated variance is 0; the open end is
    then the exact limit of min(n_members, n_nonmembers) successes out of as many, so the interval stays honest.
    """
    members = checked_scores("scores_members", scores_members).ravel()
    nonmembers = checked_scores("scores_nonmembers", scores_nonmembers).ravel()
    placements = auc_placements(members, nonmembers)
    value = float(placements.of_members.mean())
    variance = _variance_of_mean(placements.of_members) + _variance_of_mean(placements.of_nonmembers)
    reach = float(-ndtri((1 - checked_confidence(confidence)) / 2)) * np.sqrt(variance)
    least = never_certain(value, min(members.size, nonmembers.size), confidence)
    low, high = min(value - reach, float(least.low)), max(value + reach, float(least.high))
    return AUCInterval(value, max(low, 0.0), min(high, 1.0), float(np.sqrt(variance)))


class Placements(NamedTuple):
    """Share of the other class that each score outranks the right way, ties 1/2; both average to the AUC."""

    of_members: Floats
    of_nonmembers: Floats


def auc_placements(members: Floats, nonmembers: Floats) -> Placements:
    """Placement values (DeLong 1988, V10 and V01) of flat arrays in O(n log n) (Sun and Xu 2014, by midranks)."""
    pooled = rankdata(np.concatenate([members, nonmembers]))
    inside_members, inside_nonmembers = rankdata(members), rankdata(nonmembers)
    return Placements(
        (pooled[: members.size] - inside_members) / nonmembers.size,
        1 - (pooled[members.size :] - inside_nonmembers) / members.size,
    )


def never_certain(value: float, n: int, confidence: float) -> Interval:
    """The least an interval must cover: the value itself, and at a value of exactly 0 or 1 the exact limit.

    n perfect successes do not prove certainty; the limit at 1 is (tail)^(1/n).
    """
    if 0 < value < 1:
        return Interval(np.asarray(value), np.asarray(value))
    return clopper_pearson(n if value >= 1 else 0, n, confidence)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> MeanInterval:
    """Mean of independent values with Student's t interval; needs two values at least."""
    sample = checked_scores("values", values).ravel()
    if sample.size < 2:
        raise UsageError(
            f"Expected at least 2 values for an interval of their mean, got {sample.size}.",
            remedy="Audit more target models.",
        )
    deviation = float(sample.std(ddof=1))
    tail = (1 - checked_confidence(confidence)) / 2
    reach = float(-stdtrit(sample.size - 1, tail)) * deviation / np.sqrt(sample.size)
    mean = float(sample.mean())
    return MeanInterval(mean, mean - reach, mean + reach, deviation, sample.size)


def paired_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> MeanInterval:
    """Mean of `first - second` with its t interval; entry i of both must come from the same target or seed."""
    left, right = np.ravel(np.asarray(first, np.float64)), np.ravel(np.asarray(second, np.float64))
    same_length(first=left.size, second=right.size)
    return mean_interval(left - right, confidence)


def _variance_of_mean(values: Floats) -> float:
    return float(values.var(ddof=1) / values.size) if values.size > 1 else 0.0


def _check_counts(successes: Floats, trials: Floats) -> None:
    if np.any(successes < 0) or np.any(successes > trials) or np.any(trials < 1):
        raise UsageError(
            f"Expected 0 <= successes <= trials and trials >= 1, got {successes} of {trials}.",
            remedy="Pass counts, not rates.",
        )
