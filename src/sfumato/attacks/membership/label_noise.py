"""Label noise: the label of a member stays right under more noise than that of other records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.calibration import calibrated_scores
from sfumato.attacks.membership.gap import share_right
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.errors import UsageError
from sfumato.targets.answers import CORRECT
from sfumato.targets.queries import NOISY, SCALE, QuerySet
from sfumato.types import Floats
from sfumato.validate import one_of

CHOQUETTE = """@inproceedings{choquette2021label,
  title = {Label-Only Membership Inference Attacks},
  author = {Choquette-Choo, Christopher A. and Tram{\\`e}r, Florian and Carlini, Nicholas and Papernot, Nicolas},
  booktitle = {International Conference on Machine Learning},
  pages = {1964--1974},
  year = {2021}
}"""


@dataclass(frozen=True, kw_only=True)
class LabelNoise(MembershipAttack):
    """Share of right labels among views of the record: noisy ones, unless `augmentation` names others.

    Args:
        scale: of the Gaussian noise, in standard deviations of the values (of the column, or of all pixels).
        calibration: "none" (the paper) or "difficulty" (less its mean over references without the record).
    """

    name: ClassVar[str] = "label-noise"
    reference: ClassVar[str] = "choquette2021label"
    bibtex: ClassVar[str] = CHOQUETTE
    summary: ClassVar[str] = "Share of the right labels under Gaussian noise on the record."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="labels",
        knowledge="The record and its label, and the spread of the values; when calibrated, shadow models.",
    )

    augmentation: str = NOISY[0]
    scale: float = SCALE
    calibration: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("calibration", self.calibration, ("none", "difficulty"))
        if self.augmentation not in NOISY and self.scale != SCALE:
            raise UsageError(
                f"Expected `scale` for noisy views, got {self.scale} with {self.augmentation}.", remedy="Leave it out."
            )

    @property
    def query_set(self) -> QuerySet:
        scale = self.scale if self.augmentation in NOISY else 0.0
        return QuerySet(self.augmentation, self.queries, self.noise, self.average, scope="game", scale=scale)

    def needs(self) -> Needs:
        kind = "none" if self.calibration == "none" else "out"
        fewest = 0 if kind == "none" else 1
        return Needs(references=kind, minimum_references=fewest, labels_only=True, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        if self.calibration == "none":
            return share_right(evidence.target_statistic(CORRECT, self.query_set))
        signal = read_signal(evidence, CORRECT, self.query_set)
        return over_population(calibrated_scores(signal.target, signal.references, ~signal.membership), evidence.game)
