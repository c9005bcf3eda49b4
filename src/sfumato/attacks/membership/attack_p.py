"""Attack P: where a record's loss lies among the target's losses on known non-members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.signals import finite, over_population
from sfumato.attacks.membership.worlds import floored
from sfumato.types import Floats
from sfumato.validate import one_of

YE = """@inproceedings{ye2022enhanced,
  title = {Enhanced Membership Inference Attacks against Machine Learning Models},
  author = {Ye, Jiayuan and Maddi, Aadyaa and Murakonda, Sasi Kumar and Bindschaedler, Vincent and Shokri, Reza},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  pages = {3093--3106},
  year = {2022}
}"""

SMOOTHINGS = ("gaussian", "linear", "empirical")


def population_scores(target: Floats, population: Floats, smoothing: str) -> Floats:
    """The false-positive rate at which a record is called a member, counted from above. Section 4.2, arXiv 2111.09679.

    Args:
        target: [n, variants], logit-scaled confidences.
        population: [z, variants] of known non-members under the same target.
        smoothing: "empirical": share of the population below the record, ties counting half; steps of 1/(2z).
            "linear": interpolated between neighbours at i/(z + 1); ties below the lowest and above the highest.
            "gaussian": number of standard deviations above the population's mean; no ties.

    Returns:
        float64 [n], averaged over variants: a share in [0, 1], or a z-score for "gaussian".
    """
    parts = []
    for x, sample in zip(target.T, np.sort(population, axis=0).T, strict=True):
        if smoothing == "gaussian":
            parts.append((x - sample.mean()) / np.sqrt(floored(sample.var(), sample.var())))
            continue
        low, high = np.searchsorted(sample, x, "left"), np.searchsorted(sample, x, "right")
        if smoothing == "empirical":
            parts.append((low + high) / (2 * len(sample)))
        else:
            parts.append(np.interp(x, sample, np.arange(1, len(sample) + 1) / (len(sample) + 1)))
    return np.mean(parts, axis=0)


@dataclass(frozen=True, kw_only=True)
class AttackP(MembershipAttack):
    """One threshold for all records, set on population data.

    Args:
        smoothing: "gaussian" (default), "linear" or "empirical"; see `population_scores`.
    """

    name: ClassVar[str] = "attack-p"
    reference: ClassVar[str] = "ye2022enhanced"
    bibtex: ClassVar[str] = YE
    summary: ClassVar[str] = "The record's loss among the target's losses on known non-members."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="Records of the same population that were not trained on."
    )

    smoothing: str = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("smoothing", self.smoothing, SMOOTHINGS)

    def needs(self) -> Needs:
        return Needs(public=True, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        signal = finite(evidence.target_statistic("logit", self.query_set))
        scores = population_scores(signal[evidence.game], signal[evidence.public], self.smoothing)
        return over_population(scores, evidence.game)
