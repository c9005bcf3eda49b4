"""Reconstruction robustness (ReRo): how often an attacker may rebuild one unit's data from what was released.

The game of Balle, Cherubin and Hayes (2022): the attacker knows all other units and how likely each candidate for the
missing one is; it wins when its guess counts as right. `prior` (kappa) is the highest rate at which it wins without the
release. Without the unit, what is released says nothing about it, so no attack wins more often than kappa there; with
it, no attack wins more often than a test with false-positive rate kappa has true positives. So a bound on tests bounds
reconstruction, and all functions here follow from that:

- any mechanisms: the trade-off curve of their composed privacy loss (`rero_bound`);
- Gaussian noise on everyone's sum: Phi(Phi^-1(kappa) + sqrt(steps) / sigma) (`rero_gaussian`);
- Poisson sampling: the most powerful test between N(B, sigma^2 I), B of `steps` coins, and N(0, sigma^2 I), by Monte
  Carlo with a confidence limit (`rero_subsampled`); the game of Hayes, Mahloujifar and Balle (2023);
- Renyi divergence: p <= (kappa e^eps)^((order - 1) / order), because p^order kappa^(1 - order) <= e^((order - 1) eps)
  for an event of probability p with the unit and kappa without it (`rero_rdp`).

One unit of data is what the adjacency says. An attacker who rebuilds records of a group of units, a whole class for
instance, faces the bound of that group (`group_size`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binom

from sfumato.accounting.accountants.base import one_relation
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.accounting.tradeoff import tpr_bound
from sfumato.errors import NotApplicable, UsageError
from sfumato.types import Floats
from sfumato.validate import at_least, in_range, positive

if TYPE_CHECKING:
    from sfumato.accounting.guarantee import Guarantee


class Subsampled(NamedTuple):
    """What Monte Carlo found, float64 [priors] each.

    Attributes:
        estimate: of the highest success.
        low: lower confidence limit.
        high: upper confidence limit; both hold together, for one prior, with the confidence asked for.
    """

    estimate: Floats
    low: Floats
    high: Floats


def rero_bound(of: Guarantee | Sequence[Mechanism], priors: npt.ArrayLike, group_size: int = 1) -> Floats:
    """[priors] the highest success that mechanisms permit, by the trade-off curve of their composed privacy loss.

    Args:
        of: a guarantee, or mechanisms that all ran.
        priors: [priors] success without the release (kappa), in (0, 1].
        group_size: how many units the attacker rebuilds as one.

    Raises:
        UsageError: if a prior is outside (0, 1], or `group_size` is below 1.
    """
    return tpr_bound(of, _checked(priors), group_size)


def rero_gaussian(priors: npt.ArrayLike, noise_multiplier: float, steps: int = 1, group_size: int = 1) -> Floats:
    """[priors] the highest success where every unit is in each step: Phi(Phi^-1(kappa) + group sqrt(T) / sigma).

    Exact for units that are added or removed; under REPLACE_ONE one change counts as two.

    Args:
        priors: [priors] in (0, 1].
        noise_multiplier: standard deviation of the noise over the clipping norm (sigma), above 0.
        steps: T, at least 0.
        group_size: units that change together, all in one direction at worst.
    """
    positive("noise_multiplier", noise_multiplier)
    at_least("steps", steps, 0)
    at_least("group_size", group_size, 1)
    return ndtr(ndtri(_checked(priors)) + group_size * math.sqrt(steps) / noise_multiplier)


def rero_rdp(of: Guarantee | Sequence[Mechanism], priors: npt.ArrayLike) -> Floats:
    """[priors] the highest success by Renyi divergences, the best of all orders; looser than `rero_bound`.

    Args:
        of: a guarantee, or mechanisms that all ran.
        priors: [priors] in (0, 1].

    Raises:
        NotApplicable: if a mechanism has no Renyi divergence here (Poisson sampling under REPLACE_ONE).
    """
    from sfumato.accounting.accountants.rdp import RDP, divergences  # loads dp-accounting

    kappa = _checked(priors)
    running = [ran for ran in (of if isinstance(of, Sequence) else of.mechanisms) if ran.steps]
    one_relation(running)
    if reasons := [reason for ran in running if (reason := RDP().why_not(ran)) is not None]:
        raise NotApplicable(reasons[0], remedy="Use `rero_bound`.")
    if any(ran.silent for ran in running):
        return np.ones_like(kappa)
    if not running:
        return kappa
    found = divergences(running)
    return renyi_form(kappa, found.orders, found.values)


def renyi_form(priors: Floats, orders: Floats, divergences: Floats) -> Floats:
    """[priors] least over the orders of (kappa e^eps)^((order - 1) / order), between kappa and 1.

    Args:
        priors: [priors] in (0, 1].
        orders: [orders] above 1.
        divergences: [orders] Renyi divergence (eps) at each order, at least 0.
    """
    usable = orders > 1
    if not usable.any():
        return np.ones_like(priors)
    orders, divergences = orders[usable], divergences[usable]
    logs = (np.log(priors)[:, None] + divergences) * (1 - 1 / orders)
    return np.clip(np.exp(np.minimum(logs.min(axis=1), 0.0)), priors, 1.0)


def rero_subsampled(
    priors: npt.ArrayLike,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    *,
    samples: int = 100_000,
    seed: int = 0,
    confidence: float = 0.99,
) -> Subsampled:
    """The highest success under Poisson sampling, by Monte Carlo: the power of the most powerful test of level kappa.

    The test compares log-likelihood ratios. Its threshold comes from draws without the unit, its power from draws with
    it. A limit takes the threshold whose level is above (or below) kappa with half the error, by order statistics, and
    the Clopper-Pearson limit of its power with the other half; no approximation is involved.

    Args:
        priors: [priors] in (0, 1].
        noise_multiplier: sigma, above 0.
        sample_rate: q, in (0, 1].
        steps: T, at least 1.
        samples: drawn in each world; about 10 / kappa are needed for limits that are worth something.
        seed: of the draws.
        confidence: of the limits, in (0, 1).

    Returns:
        Estimate and limits; the upper limit is 1 where the samples cannot resolve a prior.
    """
    kappa = _checked(priors)
    positive("noise_multiplier", noise_multiplier)
    positive("sample_rate", sample_rate)
    in_range("sample_rate", sample_rate, 0, 1)
    at_least("steps", steps, 1)
    at_least("samples", samples, 100)
    in_range("confidence", confidence, 0, 1)
    without, with_it = (
        np.sort(_ratios(noise_multiplier, sample_rate, steps, samples, seed, present=present))
        for present in (False, True)
    )
    side = (1 - confidence) / 4  # two limits, each of a threshold and a power
    passed = np.round(kappa * samples)
    estimate = _power(without, with_it, passed) / samples
    most, fewest = binom.isf(side, samples, kappa) + 1, binom.ppf(side, samples, kappa) - 1
    high = _upper(_power(without, with_it, most), samples, side)
    low = _lower(_power(without, with_it, fewest), samples, side)
    return Subsampled(np.maximum(estimate, kappa), np.maximum(low, kappa), np.where(most > samples, 1.0, high))


def _checked(priors: npt.ArrayLike) -> Floats:
    kappa = np.asarray(priors, dtype=np.float64)
    if not np.all((kappa > 0) & (kappa <= 1)):
        raise UsageError(
            "Expected priors above 0 and up to 1, got others.", remedy="Give 1 / 256 for one of 256 equal candidates."
        )
    return kappa


def _ratios(noise: float, rate: float, steps: int, samples: int, seed: int, *, present: bool) -> Floats:
    """[samples] log-likelihood ratios, with the unit against without it, of noisy steps."""
    rng, total = np.random.default_rng([seed, int(present)]), np.zeros(samples)
    for _ in range(steps):
        seen = noise * rng.standard_normal(samples)
        if present:
            seen += rng.random(samples) < rate
        exponent = (2 * seen - 1) / (2 * noise**2)
        total += exponent if rate == 1 else np.logaddexp(math.log1p(-rate), math.log(rate) + exponent)
    return total


def _power(without: Floats, with_it: Floats, passed: Floats) -> Floats:
    """[priors] draws with the unit at or above the threshold that so many draws without it reach; both are sorted."""
    place = np.clip(len(without) - passed, 0, len(without)).astype(np.int64)
    threshold = np.append(without, np.inf)[place]
    return (len(with_it) - np.searchsorted(with_it, threshold, side="left")).astype(np.float64)


def _upper(hits: Floats, trials: int, alpha: float) -> Floats:
    return np.where(hits >= trials, 1.0, beta.isf(alpha, hits + 1, np.maximum(trials - hits, 1)))


def _lower(hits: Floats, trials: int, alpha: float) -> Floats:
    return np.where(hits <= 0, 0.0, beta.ppf(alpha, np.maximum(hits, 1), trials - hits + 1))
