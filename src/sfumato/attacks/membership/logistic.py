"""Many small logistic regressions at once, by Newton's method."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from sfumato.types import Bools, Floats

STEPS = 100
SHORTEST = 2.0**-20  # of a step; below it rounding decides
CLOSE = 1e-9  # largest derivative at the end


class Logistic(NamedTuple):
    """Fitted regressions: the log-odds of x are x . weights + intercept.

    Attributes:
        weights: float64 [n, features].
        intercepts: float64 [n].
    """

    weights: Floats
    intercepts: Floats


def fit_logistic(x: Floats, y: Bools, c: float) -> Logistic:
    """n regressions with an L2 penalty: least 0.5 |w|^2 + c * sum of log(1 + exp(-+ (x . w + b))).

    The intercept carries no penalty, as in scikit-learn's `LogisticRegression(C=c)`.

    Args:
        x: [n, samples, features].
        y: bool [n, samples]; both kinds in each regression.
        c: above 0.
    """
    ones = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
    signs = np.where(y, 1.0, -1.0)
    penalty = np.append(np.ones(x.shape[2]), 0.0)
    beta = np.zeros((len(x), ones.shape[2]))
    active = np.arange(len(x))
    for _ in range(STEPS):
        slope, step = _newton(beta[active], ones[active], signs[active], penalty, c)
        going = np.abs(slope).max(axis=1) > CLOSE * c
        active, slope, step = active[going], slope[going], step[going]
        if not len(active):
            break
        moved = _descended(beta[active], slope, step, (ones[active], signs[active], penalty, c))
        stuck = (moved == beta[active]).all(axis=1)
        beta[active] = moved
        active = active[~stuck]
    return Logistic(beta[:, :-1], beta[:, -1])


class _Newton(NamedTuple):
    slope: Floats
    step: Floats


def _newton(beta: Floats, x: Floats, signs: Floats, penalty: Floats, c: float) -> _Newton:
    wrong = expit(-signs * np.einsum("nsf,nf->ns", x, beta))
    slope = penalty * beta - c * np.einsum("ns,nsf->nf", signs * wrong, x)
    curvature = c * np.matmul((x * (wrong * (1 - wrong))[..., None]).transpose(0, 2, 1), x)
    curvature += np.diag(np.where(penalty > 0, penalty, 1e-12))  # the intercept's may round to 0
    return _Newton(slope, -np.linalg.solve(curvature, slope[..., None])[..., 0])


def _loss(beta: Floats, x: Floats, signs: Floats, penalty: Floats, c: float) -> Floats:
    margins = signs * np.einsum("nsf,nf->ns", x, beta)
    return 0.5 * (penalty * beta**2).sum(axis=1) + c * np.logaddexp(0, -margins).sum(axis=1)


def _descended(beta: Floats, slope: Floats, step: Floats, problem: tuple[Floats, Floats, Floats, float]) -> Floats:
    """Each step halved until the loss falls by a ten-thousandth of what its slope promises, or left out."""
    start, promised = _loss(beta, *problem), 1e-4 * (slope * step).sum(axis=1)
    factor = np.ones(len(beta))
    while True:
        worse = _loss(beta + factor[:, None] * step, *problem) > start + factor * promised
        if not worse.any() or factor[worse].max() < SHORTEST:
            return beta + np.where(worse, 0.0, factor)[:, None] * step
        factor[worse] /= 2
