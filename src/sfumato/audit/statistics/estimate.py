"""One number of an audit with everything that is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """How many scores stand behind a number, over all targets."""

    n_members: int
    n_nonmembers: int


@dataclass(frozen=True)
class Estimate:
    """A measured number with its interval, or the reason why there is none.

    Attributes:
        name: "auc", "tpr_at_fpr", "tnr_at_fnr", "ppv", "advantage", "balanced_accuracy" and so on.
        value: None where the data cannot resolve it; never a placeholder number.
        low: lower end of the interval, None with `value`.
        high: upper end.
        n_members: member scores behind it, over all targets.
        n_nonmembers: nonmember scores behind it.
        confidence: of the two-sided interval, in (0, 1).
        method: how the interval was made, in words.
        resolvable: False where there are too few scores to print a value.
        note: what a reader must know: scores still needed, or an optimism.
        at: the FPR, FNR or prior that the number is given at; None where there is none.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n_members: int
    n_nonmembers: int
    confidence: float
    method: str
    resolvable: bool = True
    note: str = ""
    at: float | None = None


def unresolved(name: str, counts: Counts, confidence: float, note: str, at: float | None = None) -> Estimate:
    """An estimate without a value, and the reason."""
    return Estimate(
        name=name,
        value=None,
        low=None,
        high=None,
        n_members=counts.n_members,
        n_nonmembers=counts.n_nonmembers,
        confidence=confidence,
        method="not measured",
        resolvable=False,
        note=note,
        at=at,
    )
