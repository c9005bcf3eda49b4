"""What the noise of a neural SDE hides of its input: a bound for fixed weights, and for the input of a query alone.

With h_(k+1) = phi_k(h_k) + sigma sqrt(dt) xi_k, k = 0 .. N-1, and phi_k Lipschitz with constant c_k, two inputs at most
D apart give, for every order alpha above 1,

    D_alpha(h_N || h_N') <= alpha D^2 / (2 sigma^2 dt S_N),   S_N = sum over k = 1 .. N of (c_0 c_1 ... c_(k-1))^-2.

Proof. Shift reduction (privacy amplification by iteration: Feldman, Mironov, Talwar, Thakurta 2018, arXiv 1808.06651):
a map with constant c turns a shift z into c z, and noise takes a shift of a away at the price of
alpha a^2 / (2 sigma^2 dt). With P_k = c_0 ... c_(k-1), shifts a_k that use D up satisfy sum a_k / P_k = D, and the
cheapest are a_k = D / (P_k S_N). Linear phi_k make h_N a Gaussian mechanism, and the bound is an equality where they
stretch the inputs' difference by c_k.

Nothing here is about training data, whatever was trained with this noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr

from sfumato.accounting.guarantee import rounded_up
from sfumato.errors import UsageError
from sfumato.validate import at_least, in_range, positive

ORDERS = np.concatenate([1 + np.logspace(-3, 0, 120), np.logspace(math.log10(2), 5, 240)])
SEEDED = "audit run: the noise came from a seed, so whoever knows it sees the input"
_MUS = (1e-9, 1e6)


class Path(NamedTuple):
    """How a state moves: the strength of the noise, the length of a step, and the Lipschitz constant of each step.

    Args:
        sigma: of the additive noise, above 0.
        dt: length of a step, above 0.
        factors: c_0 .. c_(N-1), each at least 0.
    """

    sigma: float
    dt: float
    factors: tuple[float, ...]


def shift_sum(factors: Sequence[float]) -> float:
    """S_N, the sum over k = 1 .. N of (c_0 ... c_(k-1))^-2; infinite where a step forgets its input.

    Args:
        factors: c_0 .. c_(N-1), each at least 0 and finite.
    """
    if len(factors) == 0 or not all(0 <= factor < math.inf for factor in factors):
        raise UsageError(
            f"Expected one finite Lipschitz constant from 0 for each step, got {list(factors)!r}.",
            remedy="Bound the drift first.",
        )
    with np.errstate(divide="ignore", over="ignore"):
        return float(np.sum(np.cumprod(np.asarray(factors, dtype=np.float64)) ** -2.0))


def local_mu(distance: float, path: Path, queries: int = 1, drift_difference: float = 0.0) -> float:
    """The mu of the Gaussian mechanism that dominates: D_alpha <= alpha mu^2 / 2 for all orders together.

    If the record enters the drift, too, shifts grow by `drift_difference` times dt in each step; with a_k = D / (P_k
    S_N) + M dt they are used up in every case. For D = 0 that is Girsanov's alpha M^2 T / (2 sigma^2), which also
    covers the whole path.

    Args:
        distance: D, the largest between two inputs, at least 0.
        path: see there.
        queries: answers that are given to the same input.
        drift_difference: M, the largest between two records' drifts at one state.
    """
    at_least("distance", distance, 0)
    at_least("drift_difference", drift_difference, 0)
    at_least("queries", queries, 1)
    positive("sigma", path.sigma)
    positive("dt", path.dt)
    total = shift_sum(path.factors)
    if drift_difference == 0:
        return distance * math.sqrt(queries) / (path.sigma * math.sqrt(path.dt) * math.sqrt(total))
    spread = np.cumprod(np.asarray(path.factors, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(math.isinf(total), 0.0, distance / (spread * total))
    squares = float(np.sum((shares + drift_difference * path.dt) ** 2))
    return math.sqrt(queries * squares / path.dt) / path.sigma


def local_rdp(alpha: float, distance: float, path: Path, queries: int = 1, drift_difference: float = 0.0) -> float:
    """The Renyi divergence of order `alpha`, above 1, between the answers to two inputs; arguments as in `local_mu`."""
    if not alpha > 1:
        raise UsageError(f"Expected an order above 1, got {alpha!r}.", remedy="Use e.g. 2.")
    return alpha * local_mu(distance, path, queries, drift_difference) ** 2 / 2


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The hockey-stick divergence of N(mu, 1) and N(0, 1) (Balle and Wang 2018, theorem 5)."""
    above = float(log_ndtr(mu / 2 - epsilon / mu))
    below = epsilon + float(log_ndtr(-epsilon / mu - mu / 2))
    return math.exp(above) * -math.expm1(min(below - above, 0.0))


def gaussian_epsilon(delta: float, mu: float) -> float:
    """The epsilon of a Gaussian mechanism, exact but for rounding, and never below it."""
    _probability(delta)
    if mu == 0 or gaussian_delta(0.0, mu) <= delta:
        return 0.0
    top = mu**2 / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    found: Any = brentq(lambda epsilon: gaussian_delta(epsilon, mu) - delta, 0.0, top, xtol=1e-12)
    return float(found) * (1 + 1e-9) + 1e-12


def renyi_epsilon(delta: float, mu: float) -> float:
    """The epsilon that follows from D_alpha <= alpha mu^2 / 2 for all alpha (Canonne, Kamath, Steinke 2020, prop. 12).

    Holds whatever the distributions are; a little above `gaussian_epsilon`.
    """
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    _probability(delta)
    if mu == 0:
        return 0.0
    return float(compute_epsilon(ORDERS.tolist(), (ORDERS * mu**2 / 2).tolist(), delta)[0])


def local_epsilon(
    delta: float, distance: float, path: Path, *, queries: int, linear: bool = False, drift_difference: float = 0.0
) -> float:
    """Epsilon of all answers to one input.

    Args:
        delta: in (0, 1).
        distance: see `local_mu`, as for the others.
        path: see there.
        queries: see there.
        linear: whether every phi_k is linear (up to a constant), which makes h_N Gaussian.
        drift_difference: see there.
    """
    mu = local_mu(distance, path, queries, drift_difference)
    return gaussian_epsilon(delta, mu) if linear else renyi_epsilon(delta, mu)


def calibrate_sigma(
    target_epsilon: float,
    delta: float,
    distance: float,
    dt: float,
    factors: Sequence[float],
    *,
    queries: int,
    linear: bool = False,
    drift_difference: float = 0.0,
) -> float:
    """The least sigma, to 9 digits, whose epsilon was computed and is at most the target; arguments as elsewhere.

    Raises:
        UsageError: if no noise keeps the target.
    """
    positive("target_epsilon", target_epsilon)
    _probability(delta)
    mu = _largest_mu(lambda mu: gaussian_epsilon(delta, mu) if linear else renyi_epsilon(delta, mu), target_epsilon)
    sigma = local_mu(distance, Path(1.0, dt, tuple(factors)), queries, drift_difference) / mu * (1 + 1e-9)
    if not 0 < sigma < math.inf:
        raise UsageError(
            f"Expected inputs of which something is to be hidden, got sigma {sigma!r}.",
            remedy="Give a distance above 0, and steps that do not forget the input without noise.",
        )
    return sigma


def _largest_mu(epsilon: Callable[[float], float], target: float) -> float:
    low, high = _MUS
    if epsilon(low) > target:
        raise UsageError(
            f"Expected a target that can be kept, got epsilon {target:g}.", remedy="Raise the target or delta."
        )
    while high / low > 1 + 1e-10:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if epsilon(middle) <= target else (low, middle)
    return low


def _probability(delta: float) -> None:
    in_range("delta", float(delta), math.nextafter(0, 1), math.nextafter(1, 0))


@dataclass(frozen=True)
class InputGuarantee:
    """What is hidden of the input of a query from whoever sees the answers. No statement about training data.

    Args:
        epsilon: an upper bound, at `delta`.
        delta: probability with which the bound on the loss may fail.
        queries: answers to the same input, composed.
        radius: that no input exceeds: the guarantee is for any two within it.
        path: what was enforced of the equation.
        linear: whether the drift is linear.
        audit_only: whether the noise could be drawn again from a seed.
    """

    epsilon: float
    delta: float
    queries: int
    radius: float
    path: Path
    linear: bool
    audit_only: bool

    @property
    def statement(self) -> str:
        """One sentence with all numbers that belong to it."""
        answers = "one answer" if self.queries == 1 else f"{self.queries} answers to the same input together"
        how = "Gaussian mechanism, linear drift" if self.linear else "Renyi divergences by shift reduction"
        steps, largest = len(self.path.factors), max(self.path.factors)
        sentence = (
            f"protects the input of a query, not the training data: epsilon {rounded_up(self.epsilon, 3)} at delta "
            f"{self.delta:g} between any two inputs of norm {self.radius:g} or less, for {answers}; {steps} steps of "
            f"{self.path.dt:g}, additive noise {self.path.sigma:g}, each step Lipschitz with {rounded_up(largest, 6)} "
            f"or less; {how}"
        )
        return f"{sentence} ({SEEDED})" if self.audit_only else sentence


def input_guarantee(
    delta: float, radius: float, path: Path, *, queries: int, linear: bool, audit_only: bool
) -> InputGuarantee:
    """The guarantee for inputs within a radius: two of them are at most twice the radius apart."""
    epsilon = local_epsilon(delta, 2 * radius, path, queries=queries, linear=linear)
    return InputGuarantee(epsilon, delta, queries, radius, path, linear, audit_only)
