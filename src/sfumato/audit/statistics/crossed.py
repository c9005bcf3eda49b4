"""Intervals for shares, means and contrasts of answers that come in crossed clusters: pairs of targets, and units.

Guesses of one class share the class, those of one target share the model, and complementary targets share the split of
the records. So k guesses of a class are not k trials. The variance is that of the clusters on either side, with both
correlations allowed (`bootstrap.CrossedVariance`), which is what a pigeonhole bootstrap estimates, less its excess; the
closed form keeps its level with a handful of clusters, where percentiles of a bootstrap are too narrow. Fewer than
`FEWEST_PAIRS` pairs cannot show how targets differ: then the interval speaks of these targets only.

- Means and contrasts: Student's t with Satterthwaite's degrees of freedom.
- Contrasts of shares: the wider end of that and of the limits of either share, put together (`put_together`): where few
  or no hits were seen, the variance that was seen is too small.
- Shares: exact binomial limits at the number of independent trials that would have the same variance, with the same
  degrees of freedom (Korn and Graubard 1998, Survey Methodology 24, 193-201); at 0 and 1, where no variance is seen, at
  the number of clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, stdtrit

from sfumato.audit.statistics.bootstrap import crossed_variance
from sfumato.audit.statistics.intervals import checked_confidence
from sfumato.errors import UsageError
from sfumato.types import Bools, Floats, Ints

FEWEST_PAIRS = 4
FEWEST_CLUSTERS = 2


class Limits(NamedTuple):
    """Both ends of an interval; None where one cluster is all there is."""

    low: float | None
    high: float | None


class Spread(NamedTuple):
    """How far a number is from what other clusters would have given.

    Attributes:
        variance: of the number.
        freedom: degrees of freedom with which it is known; 0 where there is one cluster only.
        clusters: independent ones, at least so many.
        pairs_vary: whether pairs of targets count as clusters.
    """

    variance: float
    freedom: float
    clusters: int
    pairs_vary: bool


def spread(influence: Floats, pairs: Ints, units: Ints) -> Spread:
    """The spread of a number from what each answer contributes to it.

    Args:
        influence: [n], summing to 0; see `mean_influence`, `ratio_influence`, `contrast_influence`.
        pairs: [n], the pair of targets that each answer belongs to.
        units: [n], its class, step or unit of privacy.
    """
    rows, columns = (np.unique(codes, return_inverse=True)[1] for codes in (pairs, units))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), influence)
    n_pairs, n_units = table.shape
    found = crossed_variance(table)
    if n_pairs < FEWEST_PAIRS:
        return Spread(found.units, float(n_units - 1), n_units, False)
    parts = [(found.targets, n_pairs), (found.units, n_units)]
    spent = sum(part**2 / (count - 1) for part, count in parts if count > 1)
    freedom = found.total**2 / spent if spent > 0 else float(n_pairs - 1)
    return Spread(found.total, freedom, n_units if n_units > 1 else n_pairs, True)


def mean_influence(values: Floats) -> Floats:
    """What each of the values [n] contributes to their mean."""
    return (values - values.mean()) / len(values)


def ratio_influence(part: Floats, whole: Floats) -> Floats:
    """What each answer contributes to sum(part) / sum(whole), both [n]: the linear term of a ratio."""
    total = whole.sum()
    return (part - whole * (part.sum() / total)) / total


def contrast_influence(values: Floats, first: Bools) -> Floats:
    """What each of the values [n] contributes to the mean of the `first` ones less that of the others."""
    out = np.empty(len(values))
    out[first], out[~first] = mean_influence(values[first]), -mean_influence(values[~first])
    return out


def t_limits(value: float, seen: Spread, confidence: float, least: float = 0.0) -> Limits:
    """Student's t interval.

    Args:
        value: the number.
        seen: its spread.
        confidence: two-sided, in (0, 1).
        least: half the width where no variance was seen at all, for numbers that cannot prove themselves certain.
    """
    if seen.clusters < FEWEST_CLUSTERS or seen.freedom <= 0:
        return Limits(None, None)
    tail = (1 - checked_confidence(confidence)) / 2
    reach = float(-stdtrit(seen.freedom, tail)) * float(np.sqrt(seen.variance)) if seen.variance > 0 else least
    return Limits(value - reach, value + reach)


def put_together(value: float, first: Limits, other: Limits, shares: tuple[float, float]) -> Limits:
    """Limits of a difference from those of its two shares, taken as independent (Newcombe 1998, method 10).

    Args:
        value: first share less the other.
        first: limits of the first share.
        other: limits of the other.
        shares: both, in that order.
    """
    if first.low is None or first.high is None or other.low is None or other.high is None:
        return Limits(None, None)
    a, b = shares
    return Limits(
        value - float(np.hypot(a - first.low, other.high - b)), value + float(np.hypot(first.high - a, b - other.low))
    )


def wider(one: Limits, other: Limits) -> Limits:
    """The lower of the low ends and the higher of the high ones; those of either where the other has none."""
    lows = [limits.low for limits in (one, other) if limits.low is not None]
    highs = [limits.high for limits in (one, other) if limits.high is not None]
    return Limits(min(lows, default=None), max(highs, default=None))


def unseen(clusters: int, confidence: float) -> float:
    """How large a share of clusters may be of another kind although none of so many was: 1 - tail^(1 / clusters)."""
    return float(1 - ((1 - checked_confidence(confidence)) / 2) ** (1 / clusters))


def share_limits(share: float, seen: Spread, answers: int, confidence: float) -> Limits:
    """Exact binomial limits of a share at the number of trials that its spread is worth.

    Args:
        share: in [0, 1].
        seen: its spread.
        answers: how many there are: it is worth no more trials.
        confidence: two-sided, in (0, 1).
    """
    if not 0 <= share <= 1:
        raise UsageError(f"Expected a share from 0 to 1, got {share}.", remedy="Use `t_limits` for other numbers.")
    if seen.clusters < FEWEST_CLUSTERS or seen.freedom <= 0:
        return Limits(None, None)
    tail, trials = (1 - checked_confidence(confidence)) / 2, float(seen.clusters)
    if 0 < share < 1 and seen.variance > 0:
        known = stdtrit(max(answers - 1, 1), tail) / stdtrit(seen.freedom, tail)
        trials = min(share * (1 - share) / seen.variance * float(known) ** 2, answers)
    trials = max(trials, 1.0)
    hits = share * trials
    low = betaincinv(hits, trials - hits + 1, tail) if hits > 0 else 0.0
    high = betaincinv(hits + 1, trials - hits, 1 - tail) if hits < trials else 1.0
    return Limits(float(low), float(high))
