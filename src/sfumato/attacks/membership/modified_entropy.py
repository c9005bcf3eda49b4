"""Modified entropy: entropy that knows the true label, so that a sure but wrong answer does not look like a member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import log_softmax, logsumexp

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.class_thresholds import SONG_MITTAL, relative_to_class, threshold_needs
from sfumato.attacks.membership.posteriors import only_base_query
from sfumato.attacks.membership.signals import finite
from sfumato.types import Floats, Ints


def log_complements(log_p: Floats) -> Floats:
    """log(1 - p_i), exact also where p_i is nearly 1: [..., classes] log-probabilities to [..., classes]."""
    is_top = np.arange(log_p.shape[-1]) == log_p.argmax(axis=-1)[..., None]
    others = np.asarray(logsumexp(np.where(is_top, -np.inf, log_p), axis=-1))
    small = np.log1p(-np.exp(np.where(is_top, -np.inf, log_p)))
    return np.where(is_top, others[..., None], small)


def modified_entropy_scores(logits: Floats, labels: Ints) -> Floats:
    """s = -Mentr = (1 - p_y) log p_y + sum over i != y of p_i log(1 - p_i). Equation 8, arXiv 2003.10595.

    Args:
        logits: [..., n, classes].
        labels: int [n].

    Returns:
        float64 [..., n]; -inf where a label has probability 0 or another class probability 1.
    """
    log_p = log_softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    log_q = log_complements(log_p)
    is_own = np.arange(log_p.shape[-1]) == np.asarray(labels)[:, None]
    weight, log_of = np.where(is_own, log_q, log_p), np.where(is_own, log_p, log_q)
    weight, log_of = np.exp(weight), np.where(np.isneginf(weight), 0.0, log_of)
    return np.where(weight > 0, weight * log_of, 0.0).sum(axis=-1)


@dataclass(frozen=True, kw_only=True)
class ModifiedEntropy(MembershipAttack):
    """Low modified entropy means member.

    Args:
        class_thresholds: subtract a threshold per class, learnt on reference models.
    """

    name: ClassVar[str] = "modified-entropy"
    reference: ClassVar[str] = "song2021systematic"
    bibtex: ClassVar[str] = SONG_MITTAL
    summary: ClassVar[str] = "Threshold on the entropy that takes the true label into account."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The record and its label; for class thresholds a shadow model."
    )

    class_thresholds: bool = False

    def needs(self) -> Needs:
        return threshold_needs(self.query_set, self.class_thresholds)

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        return super().applies_to(evidence) + only_base_query(self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        target = modified_entropy_scores(evidence.target.logits, evidence.labels)
        if not self.class_thresholds:
            return finite(target)[0]
        references = modified_entropy_scores(evidence.answers_of_references.logits, evidence.labels)
        both = finite(np.concatenate([target, references]))
        return relative_to_class(evidence, both[0], both[1:])
