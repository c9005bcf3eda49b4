"""Gradient norm: the loss of a record that was fitted hardly pulls at the weights any more. For who has the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.calibration import calibrated_scores
from sfumato.attacks.membership.lira import online_scores
from sfumato.attacks.membership.signals import finite, over_population, read_signal
from sfumato.targets.answers import GRADIENT_NORM
from sfumato.targets.queries import QuerySet
from sfumato.types import Floats
from sfumato.validate import one_of

SMALLEST = 1e-12  # norms below it tie: in float32 a saturated loss has a gradient of exactly 0
CALIBRATIONS = ("likelihood", "difficulty", "none")


def flatness(norms: Floats) -> Floats:
    """-log of gradient norms, at most -log 1e-12; any shape."""
    return -np.log(np.maximum(finite(norms), SMALLEST))


def gradient_scores(flat: Floats) -> Floats:
    """s = -log norm, averaged over variants: [n, variants] to [n]."""
    return flat.mean(axis=-1)


def norm_scores(evidence: Evidence, statistic: str, queries: QuerySet, calibration: str) -> Floats:
    """Scores [n] of gradient norms, kept under a name of `Answers.statistic`, calibrated as one of `CALIBRATIONS`."""
    if calibration == "none":
        norms = evidence.target_statistic(statistic, queries)[evidence.game]
        return over_population(gradient_scores(flatness(norms)), evidence.game)
    signal = read_signal(evidence, statistic, queries)
    target, references = flatness(signal.target), flatness(signal.references)
    if calibration == "difficulty":
        scores = calibrated_scores(target, references, ~signal.membership)
    else:
        scores = online_scores(target, references, signal.membership, "auto", "mean")
    return over_population(scores, evidence.game)


@dataclass(frozen=True, kw_only=True)
class GradientNorm(MembershipAttack):
    """A small gradient means member. Repeated queries change nothing: the network's noise is off.

    Args:
        calibration: "likelihood" (LiRA on the log of the norm, references with and without each record), "difficulty"
            (less its mean over references without the record) or "none".
    """

    name: ClassVar[str] = "gradient-norm"
    reference: ClassVar[str] = "nasr2019comprehensive"
    bibtex: ClassVar[str] = """@inproceedings{nasr2019comprehensive,
  title = {Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box Inference Attacks against
           Centralized and Federated Learning},
  author = {Nasr, Milad and Shokri, Reza and Houmansadr, Amir},
  booktitle = {IEEE Symposium on Security and Privacy},
  pages = {739--753},
  year = {2019}
}"""
    summary: ClassVar[str] = (
        "Norm of the gradient of the loss, against reference models; the gradient is one of the paper's signals, "
        "the likelihood ratio on it is ours."
    )
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="The weights, the record and its label; when calibrated, shadow models."
    )

    noise: str = "off"
    calibration: str = "likelihood"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("calibration", self.calibration, CALIBRATIONS)

    @property
    def query_set(self) -> QuerySet:
        return QuerySet(self.augmentation, 1, self.noise, self.average, scope="game", signal="gradient-norm")

    def needs(self) -> Needs:
        kind = {"likelihood": "in-out", "difficulty": "out", "none": "none"}[self.calibration]
        return Needs(references=kind, minimum_references=0 if kind == "none" else 1, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        return norm_scores(evidence, GRADIENT_NORM, self.query_set, self.calibration)
