"""Input-gradient norm: the loss of a record that was fitted hardly changes around it. For who has the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.gradient_norm import CALIBRATIONS, norm_scores
from sfumato.targets.answers import INPUT_GRADIENT_NORM
from sfumato.targets.queries import QuerySet
from sfumato.types import Floats
from sfumato.validate import one_of


@dataclass(frozen=True, kw_only=True)
class InputGradientNorm(MembershipAttack):
    """A small gradient by the record means member. Repeated queries change nothing: the network's noise is off.

    Args:
        calibration: "none" (the paper), "difficulty" (less its mean over references without the record) or
            "likelihood" (LiRA on the log of the norm, references with and without each record).
    """

    name: ClassVar[str] = "input-gradient-norm"
    reference: ClassVar[str] = "rezaei2021difficulty"
    bibtex: ClassVar[str] = """@inproceedings{rezaei2021difficulty,
  title = {On the Difficulty of Membership Inference Attacks},
  author = {Rezaei, Shahbaz and Liu, Xin},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {7892--7900},
  year = {2021}
}"""
    summary: ClassVar[str] = "Norm of the gradient of the loss with respect to the record."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="The weights, the record and its label; when calibrated, shadow models."
    )

    noise: str = "off"
    calibration: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("calibration", self.calibration, CALIBRATIONS)

    @property
    def query_set(self) -> QuerySet:
        return QuerySet(self.augmentation, 1, self.noise, self.average, scope="game", signal="input-gradient-norm")

    def needs(self) -> Needs:
        kind = {"likelihood": "in-out", "difficulty": "out", "none": "none"}[self.calibration]
        return Needs(references=kind, minimum_references=0 if kind == "none" else 1, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        return norm_scores(evidence, INPUT_GRADIENT_NORM, self.query_set, self.calibration)
