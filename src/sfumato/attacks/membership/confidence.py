"""Confidence in the true label, with one threshold or one per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.class_thresholds import SONG_MITTAL, relative_to_class, threshold_needs
from sfumato.attacks.membership.signals import finite
from sfumato.types import Floats


def confidence_scores(logit: Floats) -> Floats:
    """s = log p_y / (1 - p_y), averaged over variants: [..., n, variants] to [..., n].

    The confidence of section 4.2, arXiv 2003.10595, on its logit scale: the same ranking, without ties near p_y = 1.
    """
    return logit.mean(axis=-1)


@dataclass(frozen=True, kw_only=True)
class Confidence(MembershipAttack):
    """High confidence in the true label means member.

    Args:
        class_thresholds: subtract a threshold per class, learnt on reference models.
    """

    name: ClassVar[str] = "confidence"
    reference: ClassVar[str] = "song2021systematic"
    bibtex: ClassVar[str] = SONG_MITTAL
    summary: ClassVar[str] = "Threshold on the confidence in the true label, one for all records or one per class."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The record and its label; for class thresholds a shadow model."
    )

    class_thresholds: bool = False

    def needs(self) -> Needs:
        return threshold_needs(self.query_set, self.class_thresholds)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        target = evidence.target_statistic("logit", self.query_set)
        if not self.class_thresholds:
            return confidence_scores(finite(target))
        references = evidence.reference_statistic("logit", self.query_set)
        both = confidence_scores(finite(np.concatenate([target[None], references])))
        return relative_to_class(evidence, both[0], both[1:])
