"""From scores of records to scores of units of privacy (a person with many records is one unit)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import UsageError
from sfumato.validate import one_of

Floats = NDArray[np.float64]


class _Grouping(NamedTuple):
    """Records sorted by unit: `order` [records], where each unit `starts` [units], its `sizes` [units]."""

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    sizes: NDArray[np.intp]


def combine(scores: ArrayLike, units: ArrayLike, rule: str) -> Floats:
    """One score per unit from the scores of its records.

    Args:
        scores: [..., records], higher = member.
        units: integer codes [records]; every code from 0 to the largest must occur.
        rule: "mean", "sum" (of log-likelihood ratios of records that are independent given membership),
            "max" (one exposed record is enough) or "median".

    Returns:
        [..., units], unit u at position u.

    Raises:
        UsageError: unknown rule, codes that are not integers or leave a unit without records, wrong lengths.
    """
    one_of("rule", rule, RULES)
    values, codes = np.asarray(scores, np.float64), np.asarray(units)
    _check_codes(values, codes)
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    grouping = _Grouping(order, np.cumsum(sizes) - sizes, sizes)
    return RULES[rule](values[..., order], grouping)


def _sum(sorted_scores: Floats, grouping: _Grouping) -> Floats:
    return np.add.reduceat(sorted_scores, grouping.starts, axis=-1)


def _mean(sorted_scores: Floats, grouping: _Grouping) -> Floats:
    return _sum(sorted_scores, grouping) / grouping.sizes


def _max(sorted_scores: Floats, grouping: _Grouping) -> Floats:
    return np.maximum.reduceat(sorted_scores, grouping.starts, axis=-1)


def _median(sorted_scores: Floats, grouping: _Grouping) -> Floats:
    """Units of one size at a time: there are few sizes and many units."""
    out = np.empty((*sorted_scores.shape[:-1], grouping.sizes.size))
    for size in np.unique(grouping.sizes):
        alike = np.flatnonzero(grouping.sizes == size)
        records = grouping.starts[alike][:, None] + np.arange(size)
        out[..., alike] = np.median(sorted_scores[..., records], axis=-1)
    return out


RULES: dict[str, Callable[[Floats, _Grouping], Floats]] = {
    "mean": _mean,
    "sum": _sum,
    "max": _max,
    "median": _median,
}


def _check_codes(values: Floats, codes: NDArray[np.generic]) -> None:
    if not np.issubdtype(codes.dtype, np.integer) or codes.shape != values.shape[-1:] or codes.size == 0:
        raise UsageError(
            f"Expected `units` to be integers of shape {values.shape[-1:]}, got {codes.dtype} of {codes.shape}.",
            remedy="Pass one code per record, from 0 upwards.",
        )
    if int(codes.min()) < 0 or np.any(np.bincount(codes) == 0):
        raise UsageError(
            f"Expected every unit from 0 to {int(codes.max())} to have a record, but some code has none.",
            remedy="Number the units without gaps, for example with np.unique(..., return_inverse=True).",
        )
