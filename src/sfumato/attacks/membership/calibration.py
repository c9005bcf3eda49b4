"""Difficulty calibration: how much better the target does on a record than models that never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.attacks.membership.worlds import world
from sfumato.types import Bools, Floats
from sfumato.validate import one_of


def calibrated_scores(target: Floats, references: Floats, outside: Bools) -> Floats:
    """s = statistic of the target - its mean over OUT references. Equation 4, arXiv 2111.08440, for the loss.

    Args:
        target: [n, variants], higher = more confident.
        references: [r, n, variants]; read only where `outside`.
        outside: bool [r, n], True for references trained without the record.

    Returns:
        float64 [n].
    """
    return (target - world(references, outside).mean).mean(axis=1)


@dataclass(frozen=True, kw_only=True)
class Calibration(MembershipAttack):
    """The loss less the loss that is usual for the record.

    Args:
        statistic: "log_confidence" (minus the loss, the paper) or "logit" (stronger at low false-positive rates).
    """

    name: ClassVar[str] = "calibration"
    reference: ClassVar[str] = "watson2022calibration"
    bibtex: ClassVar[str] = """@inproceedings{watson2022calibration,
  title = {On the Importance of Difficulty Calibration in Membership Inference Attacks},
  author = {Watson, Lauren and Guo, Chuan and Cormode, Graham and Sablayrolles, Alexandre},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}"""
    summary: ClassVar[str] = "The loss compared with what models without the record lose on it."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models trained without the records in question."
    )

    statistic: str = "log_confidence"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("statistic", self.statistic, ("log_confidence", "logit"))

    def needs(self) -> Needs:
        return Needs(references="out", minimum_references=1, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        signal = read_signal(evidence, self.statistic, self.query_set)
        scores = calibrated_scores(signal.target, signal.references, ~signal.membership)
        return over_population(scores, evidence.game)
