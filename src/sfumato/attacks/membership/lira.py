"""LiRA: the likelihood ratio of Gaussians fitted to the answers of models with and without the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.special import log_ndtr

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.signals import Signal, over_population, read_signal
from sfumato.attacks.membership.worlds import World, floored, median, world
from sfumato.targets.queries import QuerySet
from sfumato.types import Bools, Floats
from sfumato.validate import one_of

VARIANCES = ("auto", "per-example", "pooled-residual", "pooled-raw")
SWITCH = 62  # 64 models in complementary pairs leave a target with 62: itself and its partner are left out

_BIBTEX = """@inproceedings{carlini2022lira,
  title = {Membership Inference Attacks From First Principles},
  author = {Carlini, Nicholas and Chien, Steve and Nasr, Milad and Song, Shuang and Terzis, Andreas and
            Tram{\\`e}r, Florian},
  booktitle = {IEEE Symposium on Security and Privacy},
  pages = {1897--1914},
  year = {2022}
}"""


def resolved_variance(variance: str, references: int) -> str:
    """What "auto" stands for: pooled residuals below 62 references, per example from there on (section VI-B)."""
    if variance != "auto":
        return variance
    return "per-example" if references >= SWITCH else "pooled-residual"


def world_variance(one: World, scores: Floats, chosen: Bools, variance: str) -> Floats:
    """The variance of one world, above the floors of `worlds.floored`.

    Args:
        one: mean and residual squares of the world.
        scores: [r, n, variants].
        chosen: bool [r, n], the references of this world.
        variance: "per-example": residual squares / count of each record; "pooled-residual": one value, within-record
            residuals pooled over records; "pooled-raw": one value, raw scores pooled over records and references, as
            in LiRA's research code, spread between records included.

    Returns:
        [n, variants] or [1, variants]. NaN for "pooled-residual" with one reference per record.
    """
    if variance == "per-example":
        return floored(one.squares / one.models[:, None], one.pooled_variance)
    if variance == "pooled-residual":
        pooled = one.pooled_variance
        return np.where(np.isnan(pooled), np.nan, floored(pooled, pooled))[None]
    raw = scores[chosen].var(axis=0)
    return floored(raw, raw)[None]


def log_gaussian(scores: Floats, mean: Floats, variance: Floats) -> Floats:
    """log N(scores; mean, variance), broadcast."""
    return -0.5 * (np.log(2 * np.pi * variance) + (scores - mean) ** 2 / variance)


def online_scores(target: Floats, references: Floats, membership: Bools, variance: str, center: str) -> Floats:
    """s = mean over variants of log N(phi; mu_in, var_in) - log N(phi; mu_out, var_out). Equation 4, arXiv 2112.03570.

    Where one reference of each kind leaves no residuals to pool, both variances are half the variance over records of
    the gap between IN and OUT score; their size does not change the ranking then.

    Args:
        target: [n, variants].
        references: [r, n, variants].
        membership: bool [r, n].
        variance: one of `VARIANCES`.
        center: "mean" (the paper) or "median" (its research code).

    Returns:
        float64 [n], finite.
    """
    rule = resolved_variance(variance, len(references))
    inside, outside = world(references, membership), world(references, ~membership)
    borrowed = np.var(inside.mean - outside.mean, axis=0) / 2
    ratio = np.zeros_like(target)
    for one, chosen, sign in ((inside, membership, 1.0), (outside, ~membership, -1.0)):
        fitted = world_variance(one, references, chosen, rule)
        fitted = np.where(np.isnan(fitted), floored(borrowed, borrowed), fitted)
        ratio += sign * log_gaussian(target, _center(one, references, chosen, center), fitted)
    return ratio.mean(axis=1)


def offline_scores(target: Floats, references: Floats, outside: Bools, options: tuple[str, str, str]) -> Floats:
    """s = mean over variants of log Phi((phi - mu_out)/sigma_out), one-sided (section V-C, arXiv 2112.03570).

    Args:
        target: [n, variants].
        references: [r, n, variants]; read only where `outside`.
        outside: bool [r, n], True for references trained without the record.
        options: variance rule, center, and score: "cdf" as above, or "pdf" for -log N(phi; mu_out, var_out), which
            the research code ranks by and which also flags records that are less confident than without them.

    Returns:
        float64 [n], finite. More than 38 standard deviations above the mean "cdf" cannot tell records apart.
    """
    variance, center, score = options
    one = world(references, outside)
    fitted = world_variance(one, references, outside, resolved_variance(variance, len(references)))
    mean = _center(one, references, outside, center)
    if score == "pdf":
        return -log_gaussian(target, mean, fitted).mean(axis=1)
    return log_ndtr((target - mean) / np.sqrt(fitted)).mean(axis=1)


def _center(one: World, scores: Floats, chosen: Bools, center: str) -> Floats:
    return median(scores, chosen) if center == "median" else one.mean


@dataclass(frozen=True, kw_only=True)
class _LiRA(MembershipAttack):
    """Fields that both forms share.

    Args:
        variance: "auto" (pooled residuals below 62 references, per example from there on), "per-example",
            "pooled-residual" or "pooled-raw"; see `world_variance`.
        center: "mean" or "median" of each world.
        statistic: "logit" or "hinge".
        scope: whose records are asked: "all", or only those in the "game", which is all that it reads; that is cheaper
            where many variants are asked and few units are in the game.
    """

    reference: ClassVar[str] = "carlini2022lira"
    bibtex: ClassVar[str] = _BIBTEX

    variance: str = "auto"
    center: str = "mean"
    statistic: str = "logit"
    scope: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("variance", self.variance, VARIANCES)
        one_of("center", self.center, ("mean", "median"))
        one_of("statistic", self.statistic, ("logit", "hinge"))

    @property
    def query_set(self) -> QuerySet:
        """As for all attacks, to `scope`."""
        return replace(super().query_set, scope=self.scope)

    def _signal(self, evidence: Evidence) -> Signal:
        return read_signal(evidence, self.statistic, self.query_set)


@dataclass(frozen=True, kw_only=True)
class LiRAOnline(_LiRA):
    """Shadow models with and without each record."""

    name: ClassVar[str] = "lira-online"
    summary: ClassVar[str] = "Likelihood ratio of Gaussians fitted to shadow models with and without each record."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models trained with and without each record."
    )
    antisymmetric: ClassVar[bool] = True

    def needs(self) -> Needs:
        fewest = 2 if self.variance == "per-example" else 1
        return Needs(references="in-out", minimum_references=fewest, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        signal = self._signal(evidence)
        scores = online_scores(signal.target, signal.references, signal.membership, self.variance, self.center)
        return over_population(scores, evidence.game)


@dataclass(frozen=True, kw_only=True)
class LiRAOffline(_LiRA):
    """Shadow models without the record only.

    Args:
        offline_score: "cdf" (one-sided, the paper) or "pdf" (the research code).
    """

    name: ClassVar[str] = "lira-offline"
    summary: ClassVar[str] = "One-sided Gaussian test against shadow models trained without each record."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models trained without the records in question."
    )

    offline_score: str = "cdf"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("offline_score", self.offline_score, ("cdf", "pdf"))

    def needs(self) -> Needs:
        return Needs(references="out", minimum_references=2, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        signal = self._signal(evidence)
        options = (self.variance, self.center, self.offline_score)
        scores = offline_scores(signal.target, signal.references, ~signal.membership, options)
        return over_population(scores, evidence.game)
