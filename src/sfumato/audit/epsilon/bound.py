"""What every lower bound on epsilon returns, and the checks they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sfumato.errors import UsageError
from sfumato.validate import in_range

ONE_TRIAL_EACH = "independent trials: each score is one (canary, training run) of its own"


@dataclass(frozen=True)
class EpsilonBound:
    """A measured lower bound on epsilon; read `value` only next to `ceiling`.

    Attributes:
        value: with probability at least `confidence` over the audit, no (value', delta)-DP with value' < value
            holds; 0 where nothing was shown. Finite, >= 0.
        ceiling: what a perfect attacker would have certified with the same n and the same choices. A value
            near it is limited by the audit, not by the model.
        confidence: probability that the bound does not exceed the truth, in (0, 1).
        delta: the delta it is stated at.
        method: e.g. "Clopper-Pearson, threshold from a half split".
        assumption: what must hold for it to be a bound.
        n: trials that it rests on: scores of members and nonmembers, or canaries.
        detail: counts and choices behind it, for the record.
    """

    value: float
    ceiling: float
    confidence: float
    delta: float
    method: str
    assumption: str
    n: int
    detail: Mapping[str, float | int | str] = field(default_factory=dict[str, float | int | str])


def require_independent_trials(independent_trials: bool) -> None:
    """Refuse scores that share a training run: many canaries of one run do not make a bound this way."""
    if independent_trials is not True:
        raise UsageError(
            "Expected independent trials, one (canary, training run) per score, got scores that share runs: "
            "treating them as independent gives no lower bound on epsilon.",
            remedy="Use `one_run` or `one_run_f_dp`, which are made for many canaries in one run.",
        )


def require_fair_coins(independent_coins: bool) -> None:
    """Refuse canaries that were not included by independent fair coins."""
    if independent_coins is not True:
        raise UsageError(
            "Expected canaries included by independent fair coins, got canaries chosen in another way: "
            "the one-run theorems do not hold for them.",
            remedy="Draw each canary's inclusion with `rng.random(m) < 0.5` and train once on the outcome.",
        )


def checked_delta(delta: float, *, positive: bool = False) -> float:
    """`delta` itself, in [0, 1), or in (0, 1) where the method has no finite answer at 0."""
    in_range("delta", delta, 0.0, 1.0)
    if delta == 1 or (positive and delta == 0):
        raise UsageError(
            f"Expected `delta` in {'(0, 1)' if positive else '[0, 1)'}, got {delta}: "
            "a Gaussian trade-off curve has no finite epsilon at delta 0, and delta 1 protects nothing.",
            remedy="Choose a delta well below 1 / (number of records), such as 1e-5.",
        )
    return delta
