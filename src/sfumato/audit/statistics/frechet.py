"""Frechet distance between two sets of features, each taken as a Gaussian (Heusel et al. 2017, arXiv 1706.08500).

    |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))

With S1 = A'A and S2 = B'B the last trace is the sum of the singular values of A B', whose squares are the eigenvalues
of S1 S2. So no root of a matrix is taken, and fewer samples than dimensions, where S1 S2 is singular, are no trouble.

Nothing is shrunk unless asked for. The distance of few samples is too large, whatever they are drawn from: compare it
with that of as many real ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.errors import UsageError
from sfumato.types import Floats
from sfumato.validate import in_range


class Gaussian(NamedTuple):
    """Mean [d] and a factor [r, d] of the covariance, which is factor' factor."""

    mean: Floats
    factor: Floats


def gaussian(features: Floats, shrinkage: float = 0.0) -> Gaussian:
    """Mean and covariance (divisor n - 1) of features [n, d], n at least 2.

    Args:
        features: one row for each sample.
        shrinkage: share of the covariance, in [0, 1], that is replaced by a multiple of the identity of equal trace.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise UsageError(
            f"Expected finite features [n, d] of at least 2 samples, got {x.shape}.", remedy="Take more samples."
        )
    in_range("shrinkage", shrinkage, 0, 1)
    mean = x.mean(axis=0)
    factor = (x - mean) / np.sqrt(len(x) - 1)
    if len(factor) > factor.shape[1]:  # the same covariance in d rows
        factor = np.asarray(np.linalg.qr(factor, mode="r"))
    if shrinkage:
        width = np.sqrt(shrinkage * (factor**2).sum() / x.shape[1])
        factor = np.vstack([np.sqrt(1 - shrinkage) * factor, width * np.eye(x.shape[1])])
    return Gaussian(mean, factor)


def between(one: Gaussian, other: Gaussian) -> float:
    """Frechet distance of two Gaussians, in squared units of the features; never below 0."""
    common = float(np.linalg.svd(one.factor @ other.factor.T, compute_uv=False).sum())
    traces = float((one.factor**2).sum() + (other.factor**2).sum())
    return max(float(((one.mean - other.mean) ** 2).sum()) + traces - 2 * common, 0.0)


def frechet_distance(x: Floats, y: Floats, shrinkage: float = 0.0) -> float:
    """Frechet distance between features x [n, d] and y [m, d]; see `gaussian`."""
    return between(gaussian(x, shrinkage), gaussian(y, shrinkage))
