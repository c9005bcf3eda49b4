"""Entropy of the answer: a model is surer of the records it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import log_softmax

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.class_thresholds import SONG_MITTAL, relative_to_class, threshold_needs
from sfumato.attacks.membership.posteriors import only_base_query
from sfumato.types import Floats


def entropy_scores(logits: Floats) -> Floats:
    """s = sum_i p_i log p_i = -entropy: [..., n, classes] to [..., n]. Section 4.2, arXiv 2003.10595."""
    log_p = log_softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    return np.where(np.isneginf(log_p), 0.0, np.exp(log_p) * np.where(np.isneginf(log_p), 0.0, log_p)).sum(axis=-1)


@dataclass(frozen=True, kw_only=True)
class Entropy(MembershipAttack):
    """Low entropy means member; the label is not used.

    Args:
        class_thresholds: subtract a threshold per class, learnt on reference models.
    """

    name: ClassVar[str] = "entropy"
    reference: ClassVar[str] = "song2021systematic"
    bibtex: ClassVar[str] = SONG_MITTAL
    summary: ClassVar[str] = "Threshold on the entropy of the posterior, one for all records or one per class."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The record; for class thresholds its label and a shadow model."
    )

    class_thresholds: bool = False

    def needs(self) -> Needs:
        return threshold_needs(self.query_set, self.class_thresholds)

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        return super().applies_to(evidence) + only_base_query(self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        target = entropy_scores(evidence.target.logits[0])
        if not self.class_thresholds:
            return target
        return relative_to_class(evidence, target, entropy_scores(evidence.answers_of_references.logits))
