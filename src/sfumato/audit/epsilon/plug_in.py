"""The epsilon that error rates would have if they were known exactly: an estimate, never a bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sfumato.audit.epsilon.bound import checked_delta
from sfumato.audit.epsilon.thresholds import checked_pair, counts_at


@dataclass(frozen=True)
class EpsilonEstimate:
    """A point estimate of epsilon without any confidence.

    Attributes:
        value: >= 0, or None where an error was never seen and the ratio has no finite value.
        delta: of the ratio.
        method: says that it is an estimate, not a bound.
        n: scores it rests on.
        note: why there is no value, if there is none.
    """

    value: float | None
    delta: float
    method: str
    n: int
    note: str = ""


def plug_in_epsilon(
    scores_members: ArrayLike, scores_nonmembers: ArrayLike, threshold: float, *, delta: float
) -> EpsilonEstimate:
    """max( ln((TPR - delta) / FPR), ln((TNR - delta) / FNR), 0 ) at one threshold; a score >= it is called member.

    It overshoots the truth about as often as not, and far more often at a threshold chosen on the same scores.
    """
    checked_delta(delta)
    scores = checked_pair(scores_members, scores_nonmembers)
    counts = counts_at(scores, threshold)
    fnr = float(counts.false_negatives) / counts.members
    fpr = float(counts.false_positives) / counts.nonmembers
    n, method = counts.members + counts.nonmembers, "plug-in ratio (estimate, not a bound)"
    pairs = ((1 - fnr - delta, fpr), (1 - fpr - delta, fnr))
    if any(above > 0 and below == 0 for above, below in pairs):
        return EpsilonEstimate(None, delta, method, n, "One kind of error was never seen, so the ratio is infinite.")
    ratios = [float(np.log(above / below)) for above, below in pairs if above > 0]
    return EpsilonEstimate(max([0.0, *ratios]), delta, method, n)
