import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sfumato.attacks.membership.logistic import fit_logistic


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_equals_scikit_learn(c):
    rng = np.random.default_rng(0)
    x = (rng.random((12, 30, 18)) < rng.random((12, 1, 18))).astype(float)
    y = rng.random((12, 30)) < 0.5
    x[0], x[1, :, :3] = y[0][:, None], y[1][:, None]  # separable ones
    y[:, :2] = [False, True]
    fitted = fit_logistic(x, y, c)
    for one in range(12):
        twin = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(x[one], y[one])
        np.testing.assert_allclose(fitted.weights[one], twin.coef_[0], atol=2e-5)
        np.testing.assert_allclose(fitted.intercepts[one], twin.intercept_[0], atol=2e-5)


def test_swapping_the_kinds_negates_and_unbalanced_kinds_move_the_intercept():
    rng = np.random.default_rng(1)
    x, y = rng.random((3, 20, 4)), rng.random((3, 20)) < 0.4
    one, other = fit_logistic(x, y, 1.0), fit_logistic(x, ~y, 1.0)
    np.testing.assert_allclose(one.weights, -other.weights, atol=1e-7)
    np.testing.assert_allclose(one.intercepts, -other.intercepts, atol=1e-7)
    flat = fit_logistic(np.zeros((1, 10, 2)), np.arange(10)[None] < 8, 1.0)
    np.testing.assert_allclose(flat.intercepts, np.log(4), atol=1e-7)
    assert (flat.weights == 0).all()
