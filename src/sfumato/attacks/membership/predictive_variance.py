"""Predictive variance: a model that answers at random answers more steadily on records that it has fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.calibration import calibrated_scores
from sfumato.attacks.membership.signals import finite, over_population, read_signal
from sfumato.errors import UsageError
from sfumato.targets.answers import DEVIATION
from sfumato.targets.queries import QuerySet
from sfumato.types import Floats

SMALLEST = 1e-6  # deviations below it, in nats, tie

STEADY = "needs a model that answers at random: this one gives the same answer every time"


def steadiness(deviation: Floats) -> Floats:
    """-log of the standard deviation of the logit-scaled confidence over the draws, at most -log 1e-6; any shape."""
    return -np.log(np.maximum(finite(deviation), SMALLEST))


def variance_scores(steady: Floats) -> Floats:
    """s = steadiness, averaged over variants: [n, variants] to [n]."""
    return steady.mean(axis=-1)


def answers_steadily(evidence: Evidence, queries: QuerySet) -> bool:
    """Whether the target gave the same answer every time to all records in the game."""
    deviation = evidence.target_statistic(DEVIATION, queries)[evidence.game]
    return not deviation.any()


def refuse_few_draws(attack: MembershipAttack) -> None:
    """A spread takes two draws, and a network that draws.

    Raises:
        UsageError: for a configuration without.
    """
    if attack.queries < 2 or attack.noise == "off":
        raise UsageError(
            f"Expected `queries` of at least 2 with the noise on, got {attack.queries} and noise={attack.noise!r}.",
            remedy=f"{attack.name} looks at how much answers differ; use queries=16.",
        )


@dataclass(frozen=True, kw_only=True)
class PredictiveVariance(MembershipAttack):
    """Answers that hardly differ mean member.

    Args:
        calibrated: subtract what is usual for the record among reference models trained without it.
    """

    name: ClassVar[str] = "predictive-variance"
    reference: ClassVar[str] = "gal2016dropout"
    bibtex: ClassVar[str] = """@inproceedings{gal2016dropout,
  title = {Dropout as a {B}ayesian Approximation: Representing Model Uncertainty in Deep Learning},
  author = {Gal, Yarin and Ghahramani, Zoubin},
  booktitle = {International Conference on Machine Learning},
  year = {2016}
}"""
    summary: ClassVar[str] = (
        "How little the answers of a random model differ, against models without the record; "
        "the predictive variance is the paper's, its use as an attack is ours."
    )
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores",
        knowledge="The record and its label; when calibrated, shadow models trained without the records in question.",
    )

    queries: int = 16
    calibrated: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_few_draws(self)

    def needs(self) -> Needs:
        if not self.calibrated:
            return Needs(queries=self.query_set)
        return Needs(references="out", minimum_references=1, queries=self.query_set)

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        reasons = super().applies_to(evidence)
        return reasons or ((STEADY,) if answers_steadily(evidence, self.query_set) else ())

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        if not self.calibrated:
            deviation = evidence.target_statistic(DEVIATION, self.query_set)[evidence.game]
            return over_population(variance_scores(steadiness(deviation)), evidence.game)
        signal = read_signal(evidence, DEVIATION, self.query_set)
        target, references = steadiness(signal.target), steadiness(signal.references)
        return over_population(calibrated_scores(target, references, ~signal.membership), evidence.game)
