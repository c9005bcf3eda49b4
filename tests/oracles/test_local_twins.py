"""The local bound against slow twins: the exact law of linear paths, and the best shifts by a general optimiser."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from sfumato.accounting.local import Path, local_mu, local_rdp


def exact_mu(matrices, difference, sigma, dt):
    """mu of h_N for linear steps h -> A_k h + sigma sqrt(dt) xi, by carrying mean and covariance along."""
    size = len(difference)
    mean, covariance = np.asarray(difference, dtype=float), np.zeros((size, size))
    for matrix in matrices:
        mean = matrix @ mean
        covariance = matrix @ covariance @ matrix.T + sigma**2 * dt * np.eye(size)
    return math.sqrt(mean @ np.linalg.solve(covariance, mean))


@pytest.mark.parametrize("steps", [10, 100])
@pytest.mark.parametrize("slope", [-1.0, 0.0, 1.0, 3.0])
def test_linear_drift_meets_the_bound(slope, steps):
    dt, sigma, distance = 1 / steps, 0.6, 1.7
    factor = 1 + slope * dt
    path = Path(sigma, dt, (factor,) * steps)
    exact = exact_mu([np.array([[factor]])] * steps, [distance], sigma, dt)
    assert local_mu(distance, path) == pytest.approx(exact, rel=1e-10)
    assert local_rdp(5.0, distance, path) == pytest.approx(5.0 * exact**2 / 2, rel=1e-10)


def test_so_does_drift_that_changes_with_time():
    factors, dt = (1.4, 0.3, 2.0, 1.0, 0.9), 0.2
    exact = exact_mu([np.array([[factor]]) for factor in factors], [1.0], 1.1, dt)
    assert local_mu(1.0, Path(1.1, dt, factors)) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_no_linear_drift_exceeds_the_bound_of_its_norms(seed):
    rng = np.random.default_rng(seed)
    matrices = [np.eye(3) + 0.3 * rng.normal(size=(3, 3)) for _ in range(6)]
    difference = rng.normal(size=3)
    path = Path(0.8, 0.25, tuple(np.linalg.norm(matrix, 2) for matrix in matrices))
    assert exact_mu(matrices, difference, 0.8, 0.25) <= local_mu(np.linalg.norm(difference), path) * (1 + 1e-12)


@pytest.mark.parametrize("factors", [(1.3,) * 4, (0.5, 2.0, 1.0), (1.0, 0.2, 0.2, 3.0)])
def test_no_other_shifts_are_cheaper(factors):
    """Minimises sum a_k^2 under z_(k+1) = c_k z_k - a_(k+1), z_0 = 1, z_N = 0."""

    def left(shifts):
        z = 1.0
        for factor, shift in zip(factors, shifts, strict=True):
            z = factor * z - shift
        return z

    found = minimize(
        lambda a: float(a @ a),
        np.ones(len(factors)),
        constraints={"type": "eq", "fun": left},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.success
    assert local_mu(1.0, Path(1.0, 1.0, factors)) ** 2 == pytest.approx(found.fun, rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_a_record_in_the_drift_of_a_linear_path_stays_within_the_bound(seed):
    """Two paths with the same slope, apart at the start and by a constant push: exact mu against the bound."""
    rng = np.random.default_rng(seed)
    steps, dt, sigma = 6, 0.25, 0.9
    factor, push, start = 1 + dt * rng.uniform(-1, 2), rng.uniform(0, 1), rng.uniform(0, 2)
    mean, variance = start, 0.0
    for _ in range(steps):
        mean, variance = factor * mean + push * dt, factor**2 * variance + sigma**2 * dt
    path = Path(sigma, dt, (factor,) * steps)
    assert mean / math.sqrt(variance) <= local_mu(start, path, drift_difference=push) * (1 + 1e-12)
