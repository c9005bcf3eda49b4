"""Loss threshold: a record that the model fits well looks like a member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.attacks.evidence import Evidence, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.signals import finite
from sfumato.types import Floats


def loss_scores(log_confidence: Floats) -> Floats:
    """s = -loss = log p_y, averaged over variants. Adversary 1 of arXiv 1709.01604 thresholds it.

    Args:
        log_confidence: [n, variants].

    Returns:
        float64 [n].
    """
    return finite(log_confidence).mean(axis=-1)


@dataclass(frozen=True, kw_only=True)
class LossThreshold(MembershipAttack):
    """Low loss means member."""

    name: ClassVar[str] = "loss"
    reference: ClassVar[str] = "yeom2018privacy"
    bibtex: ClassVar[str] = """@inproceedings{yeom2018privacy,
  title = {Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting},
  author = {Yeom, Samuel and Giacomelli, Irene and Fredrikson, Matt and Jha, Somesh},
  booktitle = {IEEE Computer Security Foundations Symposium},
  pages = {268--282},
  year = {2018}
}"""
    summary: ClassVar[str] = "One threshold on the loss for all records."
    threat_model: ClassVar[ThreatModel] = ThreatModel(access="scores", knowledge="The record and its label.")

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        return loss_scores(evidence.target_statistic("log_confidence", self.query_set))
