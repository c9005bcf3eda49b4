"""Boundary distance: members lie farther from the decision boundary, as a walk with labels only finds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.label_noise import CHOQUETTE
from sfumato.attacks.membership.lira import online_scores
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.targets.answers import BOUNDARY_DISTANCE
from sfumato.targets.queries import BOUNDARY, QuerySet
from sfumato.types import Floats
from sfumato.validate import one_of

SMALLEST = 1e-12  # where all distances are 0


def log_distances(distances: Floats) -> Floats:
    """Natural logarithm of distances of one statistic, any shape; 0 counts as half of the smallest one above 0."""
    above = distances[distances > 0]
    least = above.min() / 2 if len(above) else SMALLEST
    return np.log(np.maximum(distances, least))


@dataclass(frozen=True, kw_only=True)
class BoundaryDistance(MembershipAttack):
    """A far boundary means member; a wrong label is a distance of 0.

    Args:
        budget: most labels that the walk asks for each view of each record, each `queries` times where answers are
            random (the most frequent answer counts). With few, distances are too large but keep much of their order.
        calibration: "none" (the papers) or "likelihood" (LiRA on the log of the distance, references with and without
            each record, which are asked as often).
    """

    name: ClassVar[str] = "boundary-distance"
    reference: ClassVar[str] = "choquette2021label"
    bibtex: ClassVar[str] = (
        CHOQUETTE
        + """
@inproceedings{chen2020hopskipjump,
  title = {{HopSkipJumpAttack}: A Query-Efficient Decision-Based Attack},
  author = {Chen, Jianbo and Jordan, Michael I. and Wainwright, Martin J.},
  booktitle = {IEEE Symposium on Security and Privacy},
  pages = {1277--1294},
  year = {2020}
}"""
    )
    summary: ClassVar[str] = "L2 distance to the decision boundary, found with labels only by a HopSkipJump walk."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="labels",
        knowledge="The record and its label, a few records of other classes and the range of the values; when "
        "calibrated, shadow models.",
    )

    budget: int = 500
    calibration: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("calibration", self.calibration, ("none", "likelihood"))

    @property
    def query_set(self) -> QuerySet:
        return QuerySet(
            self.augmentation,
            self.queries,
            self.noise,
            self.average,
            scope="game",
            signal=BOUNDARY,
            budget=self.budget,
        )

    def needs(self) -> Needs:
        kind = "none" if self.calibration == "none" else "in-out"
        fewest = 0 if kind == "none" else 1
        return Needs(references=kind, minimum_references=fewest, labels_only=True, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        if self.calibration == "none":
            return evidence.target_statistic(BOUNDARY_DISTANCE, self.query_set).mean(axis=-1)
        signal = read_signal(evidence, BOUNDARY_DISTANCE, self.query_set)
        together = log_distances(np.concatenate([signal.target[None], signal.references]))
        scores = online_scores(together[0], together[1:], signal.membership, "auto", "mean")
        return over_population(scores, evidence.game)
