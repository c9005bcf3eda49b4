"""BaVarIA: Bayesian variance inference, our reconstruction of arXiv 2603.11799.

The paper's abstract states the idea: conjugate normal-inverse-gamma priors on each record's mean and variance in place
of LiRA's switch between a global and a per-record variance; a Student-t predictive ("t") or a Gaussian with stabilised
variance ("n"). How the prior's parameters are found is OUR RECONSTRUCTION, by empirical Bayes, and is stated in full at
`gap_prior` and `variance_prior`. `prior="global"` is the plain textbook choice instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import gammaln, log_ndtr, ndtri, stdtr
from scipy.stats import rankdata

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.attacks.membership.worlds import ABSOLUTE_FLOOR, World, world
from sfumato.types import Floats
from sfumato.validate import in_range, one_of

_BIBTEX = """@article{brannvall2026bavaria,
  title = {Exponential-Family Membership Inference: From {LiRA} and {RMIA} to {BaVarIA}},
  author = {Br{\\"a}nnvall, Rickard},
  journal = {arXiv preprint arXiv:2603.11799},
  year = {2026}
}"""


class Options(NamedTuple):
    """How priors and predictives are formed, see `BaVarIA`."""

    prior: str = "trend"
    predictive: str = "t"
    variance_trend: float = 0.5


class Prior(NamedTuple):
    """Normal-inverse-gamma prior of one world: sigma2 ~ InvGamma(shape, scale), mu | sigma2 ~ N(mean, sigma2/strength).

    Attributes:
        mean: [n].
        strength: pseudo-observations behind the mean, at least 0; 0 is the flat prior.
        shape: above 2, so that the variance of sigma2 exists.
        scale: [n], above 0.
    """

    mean: Floats
    strength: float
    shape: float
    scale: Floats


class Predictive(NamedTuple):
    """Student-t predictive of one more score: degrees of freedom [n], location [n], squared scale [n]."""

    freedom: Floats
    location: Floats
    scale2: Floats


class Gap(NamedTuple):
    """What is known before looking at a record's own gap between IN and OUT mean: `trend` [n], pseudo-observations."""

    trend: Floats
    strength: float


def difficulty_basis(difficulty: Floats) -> Floats:
    """[n] to [n, 3]: 1, u, u^2 for the normal score u of the rank of a record's difficulty. Ranks tame outliers."""
    u = ndtri((rankdata(difficulty) - 0.5) / len(difficulty))
    return np.stack([np.ones_like(u), u, u * u], axis=1)


def trend(basis: Floats, values: Floats) -> Floats:
    """Least-squares fit of `values` [n] on `basis` [n, k], evaluated at each record: [n]."""
    return basis @ np.linalg.lstsq(basis, values, rcond=None)[0]


def variance_prior(one: World, basis: Floats, variance_trend: float) -> tuple[float, Floats]:
    """Shape and scale [n] of the inverse-gamma prior by moments; a world with one variant.

    Within-record variances s2 on nu degrees of freedom are first divided by g = exp(variance_trend * trend of log s2
    in difficulty), scaled to mean 1. Then E s2 = E sigma2 and E s2^2 = (1 + 2/nu) E sigma2^2 give mean m and variance v
    of sigma2, v at least m^2/1000, hence shape 2 + m^2/v in (2, 1002] and scale m (shape - 1) g.
    """
    seen = one.models > 1
    nu = one.models[seen] - 1
    s2 = one.squares[seen, 0] / nu
    shape_of = np.ones(len(one.models))
    if variance_trend:
        level = np.log(np.maximum(s2, 1e-3 * s2.mean() + ABSOLUTE_FLOOR))
        fitted = basis @ np.linalg.lstsq(basis[seen], level, rcond=None)[0]
        shape_of = np.exp(variance_trend * (fitted - fitted.mean()))
        shape_of /= shape_of.mean()
    z = s2 / shape_of[seen]
    mean = z.mean() + ABSOLUTE_FLOOR
    spread = max((z**2 / (1 + 2 / nu)).mean() - mean**2, 1e-3 * mean**2)
    shape = 2 + mean**2 / spread
    return shape, mean * (shape - 1) * shape_of


def gap_prior(inside: World, outside: World, basis: Floats) -> Gap:
    """The gap between IN and OUT mean that records of this difficulty have, and how far to trust it.

    The observed gap d = mean IN - mean OUT scatters around its trend in difficulty by noise of variance
    noise = s2_in/n_in + s2_out/n_out and by true differences of variance tau2 = var(d - trend) - noise (at least
    var(d)/1000). A strength of n noise / tau2 shrinks d to its trend by the factor tau2 / (tau2 + noise). With one
    reference of each kind noise and tau2 cannot be told apart, and each is taken to be half.
    """
    gap = (inside.mean - outside.mean)[:, 0]
    fitted = trend(basis, gap)
    count = (inside.models.mean() + outside.models.mean()) / 2
    scatter = float(np.var(gap - fitted))
    noise = float(inside.pooled_variance[0] / inside.models.mean() + outside.pooled_variance[0] / outside.models.mean())
    if np.isnan(noise):
        return Gap(fitted, 1.0)
    true = max(scatter - noise, 1e-3 * float(np.var(gap)), ABSOLUTE_FLOOR)
    return Gap(fitted, count * noise / true)


def _variance_prior_or(one: World, basis: Floats, variance_trend: float, borrowed: float) -> tuple[float, Floats]:
    """`variance_prior`, or for one reference per record shape 3 around the variance borrowed from the gaps."""
    if one.freedom.any():
        return variance_prior(one, basis, variance_trend)
    return 3.0, np.full(len(one.models), 2 * borrowed)


def trend_priors(inside: World, outside: World, variance_trend: float) -> tuple[Prior, Prior]:
    """Priors of IN and OUT world among records of similar difficulty; worlds with one variant.

    Difficulty is c = (mean IN + mean OUT)/2, the same for both worlds. The prior means are c + trend/2 and c - trend/2
    (`gap_prior`): where a record lies is left to its own references, how far its two worlds lie apart is shrunk
    to what is usual. Swapping the worlds swaps the priors.
    """
    difficulty = (inside.mean + outside.mean)[:, 0] / 2
    basis = difficulty_basis(difficulty)
    gap = gap_prior(inside, outside, basis)
    borrowed = float(np.var((inside.mean - outside.mean)[:, 0] - gap.trend)) / 2 + ABSOLUTE_FLOOR
    priors = [
        Prior(
            difficulty + sign * gap.trend / 2,
            gap.strength,
            *_variance_prior_or(one, basis, variance_trend, borrowed),
        )
        for one, sign in ((inside, 1), (outside, -1))
    ]
    return priors[0], priors[1]


def global_prior(one: World) -> Prior:
    """The plain empirical-Bayes prior: mean of all records' means, strength = within / between variance, one scale."""
    shape, scale = variance_prior(one, np.ones((len(one.models), 1)), 0.0)
    within = float(one.pooled_variance[0])
    between = float(np.var(one.mean)) - within / float(one.models.mean())
    strength = within / max(between, 1e-3 * float(np.var(one.mean)), ABSOLUTE_FLOOR)
    return Prior(np.full(len(one.models), one.mean.mean()), strength, shape, scale)


def flat_mean_prior(one: World) -> Prior:
    """No prior knowledge of the mean (strength 0), one inverse-gamma prior for all variances."""
    shape, scale = variance_prior(one, np.ones((len(one.models), 1)), 0.0)
    return Prior(one.mean[:, 0], 0.0, shape, scale)


def predictive(one: World, prior: Prior) -> Predictive:
    """The conjugate update and its Student-t predictive, for a world with one variant.

    kappa_n = kappa0 + n, m_n = (kappa0 m0 + n mean) / kappa_n, alpha_n = alpha0 + n/2 (for the flat prior (n - 1)/2),
    beta_n = beta0 + squares/2 + kappa0 n (mean - m0)^2 / (2 kappa_n); t with 2 alpha_n degrees of freedom, location m_n
    and squared scale beta_n (kappa_n + 1) / (alpha_n kappa_n).
    """
    n, mean = one.models, one.mean[:, 0]
    strength = prior.strength + n
    location = (prior.strength * prior.mean + n * mean) / strength
    shape = prior.shape + (n if prior.strength > 0 else n - 1) / 2
    moved = prior.strength * n * (mean - prior.mean) ** 2 / (2 * strength)
    scale = prior.scale + one.squares[:, 0] / 2 + moved
    return Predictive(2 * shape, location, scale * (strength + 1) / (shape * strength))


def log_density(scores: Floats, of: Predictive, form: str) -> Floats:
    """log of the predictive density at `scores` [n]: Student-t ("t"), or the Gaussian of equal variance ("n")."""
    if form == "n":
        variance = of.scale2 * of.freedom / (of.freedom - 2)
        return -0.5 * (np.log(2 * np.pi * variance) + (scores - of.location) ** 2 / variance)
    half = of.freedom / 2
    constant = gammaln(half + 0.5) - gammaln(half) - 0.5 * np.log(np.pi * of.freedom * of.scale2)
    return constant - (half + 0.5) * np.log1p((scores - of.location) ** 2 / (of.freedom * of.scale2))


def log_distribution(scores: Floats, of: Predictive, form: str) -> Floats:
    """log of the predictive distribution function at `scores` [n], finite and without ties in either tail.

    Far below, where it underflows, the t distribution F(x) is close to f(x) scale |t| / freedom.
    """
    width = of.scale2 if form == "t" else of.scale2 * of.freedom / (of.freedom - 2)
    t = (scores - of.location) / np.sqrt(width)
    if form == "n":
        return log_ndtr(t)
    below = stdtr(of.freedom, np.minimum(t, 0.0))
    tail = log_density(scores, of, "t") + 0.5 * np.log(of.scale2) + np.log(np.maximum(-t, 1.0) / of.freedom)
    lower = np.where(below > 1e-280, np.log(np.maximum(below, 1e-280)), tail)
    return np.where(t < 0, lower, np.log1p(-stdtr(of.freedom, -np.maximum(t, 0.0))))


def online_scores(target: Floats, inside: World, outside: World, options: Options) -> Floats:
    """s = mean over variants of log predictive IN - log predictive OUT; [n, variants] to [n]. Section 3, 2603.11799."""
    parts = []
    for variant in range(target.shape[1]):
        worlds = _one_variant(inside, variant), _one_variant(outside, variant)
        if options.prior == "global":
            priors = global_prior(worlds[0]), global_prior(worlds[1])
        else:
            priors = trend_priors(*worlds, options.variance_trend)
        inner, outer = (predictive(one, prior) for one, prior in zip(worlds, priors, strict=True))
        x = target[:, variant]
        parts.append(log_density(x, inner, options.predictive) - log_density(x, outer, options.predictive))
    return np.mean(parts, axis=0)


def offline_scores(target: Floats, outside: World, options: Options) -> Floats:
    """s = mean over variants of the log distribution function of the OUT predictive; [n, variants] to [n]."""
    parts = []
    for variant in range(target.shape[1]):
        one = _one_variant(outside, variant)
        prior = global_prior(one) if options.prior == "global" else flat_mean_prior(one)
        parts.append(log_distribution(target[:, variant], predictive(one, prior), options.predictive))
    return np.mean(parts, axis=0)


def _one_variant(one: World, variant: int) -> World:
    return World(one.models, one.mean[:, [variant]], one.squares[:, [variant]])


@dataclass(frozen=True, kw_only=True)
class _BaVarIA(MembershipAttack):
    """Fields and facts that the online and the offline form share.

    Args:
        statistic: "logit" or "hinge".
        predictive: "t" (Student-t) or "n" (Gaussian with stabilised variance).
        prior: "trend" (our reconstruction: the prior of a record is learnt from records of similar difficulty; offline,
            where the gap is unknown, a flat prior on the mean) or "global" (textbook: one prior per world).
        variance_trend: how much of the trend of log variance in difficulty the prior follows, in [0, 1]. Half by
            default: the trend is fitted to the body of the scores and overstates their tails.
    """

    reference: ClassVar[str] = "brannvall2026bavaria"
    bibtex: ClassVar[str] = _BIBTEX

    statistic: str = "logit"
    predictive: str = "t"
    prior: str = "trend"
    variance_trend: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("statistic", self.statistic, ("logit", "hinge"))
        one_of("predictive", self.predictive, ("t", "n"))
        one_of("prior", self.prior, ("trend", "global"))
        in_range("variance_trend", self.variance_trend, 0.0, 1.0)

    @property
    def options(self) -> Options:
        """How priors and predictives are formed."""
        return Options(self.prior, self.predictive, self.variance_trend)


@dataclass(frozen=True, kw_only=True)
class BaVarIA(_BaVarIA):
    """Ratio of the Bayesian predictive densities with and without the record; the default attack."""

    name: ClassVar[str] = "bavaria"
    summary: ClassVar[str] = (
        "Likelihood ratio with Bayesian means and variances, strong from few shadow models on; "
        "its conjugate priors are our reconstruction of the paper."
    )
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models trained with and without each record."
    )
    antisymmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        fewest = 1 if self.prior == "trend" else 2
        return Needs(references="in-out", minimum_references=fewest, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        signal = read_signal(evidence, self.statistic, self.query_set)
        inside = world(signal.references, signal.membership)
        outside = world(signal.references, ~signal.membership)
        return over_population(online_scores(signal.target, inside, outside, self.options), evidence.game)


@dataclass(frozen=True, kw_only=True)
class BaVarIAOffline(_BaVarIA):
    """How far the target's answer lies above what models without the record answer."""

    name: ClassVar[str] = "bavaria-offline"
    summary: ClassVar[str] = (
        "One-sided test against models without the record, with Bayesian variances; our reconstruction of the paper."
    )
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models trained without the records in question."
    )

    def needs(self) -> Needs:
        return Needs(references="out", minimum_references=2, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        signal = read_signal(evidence, self.statistic, self.query_set)
        outside = world(signal.references, ~signal.membership)
        return over_population(offline_scores(signal.target, outside, self.options), evidence.game)
