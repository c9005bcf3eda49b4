"""Gap attack: a record whose label the model gets right looks like a member. What every label gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.targets.answers import CORRECT
from sfumato.types import Floats


def share_right(correct: Floats) -> Floats:
    """s = share of the variants with the right label: [..., variants] of values in [0, 1] to [...]."""
    return correct.mean(axis=-1)


@dataclass(frozen=True, kw_only=True)
class Gap(MembershipAttack):
    """Right means member, wrong means non-member; its advantage is the gap between training and test accuracy."""

    name: ClassVar[str] = "gap"
    reference: ClassVar[str] = "yeom2018privacy"
    bibtex: ClassVar[str] = """@inproceedings{yeom2018privacy,
  title = {Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting},
  author = {Yeom, Samuel and Giacomelli, Irene and Fredrikson, Matt and Jha, Somesh},
  booktitle = {IEEE Computer Security Foundations Symposium},
  pages = {268--282},
  year = {2018}
}"""
    summary: ClassVar[str] = "Whether the label is right; the baseline of all attacks that see labels only."
    threat_model: ClassVar[ThreatModel] = ThreatModel(access="labels", knowledge="The record and its label.")

    def needs(self) -> Needs:
        return Needs(labels_only=True, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        return share_right(evidence.target_statistic(CORRECT, self.query_set))
