"""LiRA on two features of a model that answers at random: how sure it is on average, and how its answers differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.predictive_variance import STEADY, answers_steadily, refuse_few_draws, steadiness
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.attacks.membership.worlds import ABSOLUTE_FLOOR, RELATIVE_FLOOR, world
from sfumato.types import Bools, Floats


def pooled_covariance(references: Floats, chosen: Bools, mean: Floats) -> Floats:
    """Covariance of the two features within records, pooled over records.

    Args:
        references: [r, n, 2].
        chosen: bool [r, n], the references of one world, two or more for some record.
        mean: [n, 2], of the chosen references.

    Returns:
        float64 [2, 2]: sum over records and chosen references of the outer products of the residuals, divided by the
        sum over records of count - 1; a millionth is added to each variance (at least 1e-12), so that it inverts.
    """
    residual = np.where(chosen[..., None], references - mean, 0.0)
    freedom = (chosen.sum(axis=0) - 1).sum()
    covariance = np.einsum("rni,rnj->ij", residual, residual) / freedom
    return covariance + np.diag(np.maximum(RELATIVE_FLOOR * np.diag(covariance), ABSOLUTE_FLOOR))


def log_gaussian_pair(values: Floats, mean: Floats, covariance: Floats) -> Floats:
    """log N(values; mean, covariance): [n, 2], [n, 2], [2, 2] to [n]."""
    gap = values - mean
    distance = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(covariance), gap)
    return -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1])


def two_feature_scores(target: Floats, references: Floats, membership: Bools) -> Floats:
    """s = mean over variants of log N(f; mean_in, cov_in) - log N(f; mean_out, cov_out); as LiRA (arXiv 2112.03570).

    Args:
        target: [n, variants, 2].
        references: [r, n, variants, 2].
        membership: bool [r, n].

    Returns:
        float64 [n].
    """
    ratio = np.zeros(target.shape[:2])
    for variant in range(target.shape[1]):
        here = references[:, :, variant]
        for chosen, sign in ((membership, 1.0), (~membership, -1.0)):
            mean = world(here, chosen).mean
            covariance = pooled_covariance(here, chosen, mean)
            ratio[:, variant] += sign * log_gaussian_pair(target[:, variant], mean, covariance)
    return ratio.mean(axis=1)


@dataclass(frozen=True, kw_only=True)
class LiRATwoFeatures(MembershipAttack):
    """Shadow models with and without each record, each asked as often as the target."""

    name: ClassVar[str] = "lira-two-features"
    reference: ClassVar[str] = LiRAOnline.reference
    bibtex: ClassVar[str] = LiRAOnline.bibtex
    summary: ClassVar[str] = (
        "LiRA on the average confidence of a random model together with how much its answers differ; "
        "the second feature is ours."
    )
    threat_model: ClassVar[ThreatModel] = LiRAOnline.threat_model
    antisymmetric: ClassVar[bool] = True

    queries: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_few_draws(self)

    def needs(self) -> Needs:
        return Needs(references="in-out", minimum_references=2, queries=self.query_set)

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        reasons = super().applies_to(evidence)
        return reasons or ((STEADY,) if answers_steadily(evidence, self.query_set) else ())

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        sure = read_signal(evidence, "logit", self.query_set)
        spread = read_signal(evidence, "deviation", self.query_set)
        target = np.stack([sure.target, steadiness(spread.target)], axis=-1)
        references = np.stack([sure.references, steadiness(spread.references)], axis=-1)
        return over_population(two_feature_scores(target, references, sure.membership), evidence.game)
