"""Augmentation bits: which of the mirrored and shifted views of a record get the right label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.gap import share_right
from sfumato.attacks.membership.logistic import fit_logistic
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.targets.answers import CORRECT
from sfumato.targets.queries import QuerySet
from sfumato.types import Bools, Floats
from sfumato.validate import one_of, positive


def regression_scores(target: Floats, references: Floats, membership: Bools, c: float) -> Floats:
    """s = log-odds of membership under a logistic regression of each record on the bits of its references.

    Where all references agree in every bit there is nothing to fit: then the score is the share of right bits of the
    target less that of the references, so 0, the log-odds that such a fit would give, for a target like them.

    Args:
        target: [g, bits] in [0, 1].
        references: [r, g, bits].
        membership: bool [r, g]; at least one of each kind per record.
        c: inverse strength of the penalty on the weights.

    Returns:
        float64 [g].
    """
    scores = share_right(target) - share_right(references).mean(axis=0)
    vary = np.flatnonzero((references != references[:1]).any(axis=(0, 2)))
    if len(vary):
        fitted = fit_logistic(references[:, vary].transpose(1, 0, 2), membership[:, vary].T, c)
        scores[vary] = (target[vary] * fitted.weights).sum(axis=1) + fitted.intercepts
    return scores


@dataclass(frozen=True, kw_only=True)
class AugmentationBits(MembershipAttack):
    """Which views of the record are labelled right.

    Args:
        calibration: "regression" (log-odds under a logistic regression for each record, on models with and without
            it) or "none" (how many are right).
        c: inverse strength of the regression's penalty; 1 in the attack on HAMP.
    """

    name: ClassVar[str] = "augmentation-bits"
    reference: ClassVar[str] = "aerni2024evaluations"
    bibtex: ClassVar[str] = """@inproceedings{aerni2024evaluations,
  title = {Evaluations of Machine Learning Privacy Defenses are Misleading},
  author = {Aerni, Michael and Zhang, Jie and Tram{\\`e}r, Florian},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  year = {2024}
}"""
    summary: ClassVar[str] = (
        "Which of 18 mirrored and shifted views get the right label, by a logistic regression for each record."
    )
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="labels",
        knowledge="The record and its label; for the regression, shadow models trained with and without each record.",
    )

    augmentation: str = "mirror-shift"
    calibration: str = "regression"
    c: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("calibration", self.calibration, ("regression", "none"))
        positive("c", self.c)

    @property
    def query_set(self) -> QuerySet:
        """Of the records in the game alone, which is all that it reads."""
        return replace(super().query_set, scope="game")

    def needs(self) -> Needs:
        kind = "in-out" if self.calibration == "regression" else "none"
        fewest = 1 if self.calibration == "regression" else 0
        return Needs(references=kind, minimum_references=fewest, labels_only=True, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        if self.calibration == "none":
            return share_right(evidence.target_statistic(CORRECT, self.query_set))
        signal = read_signal(evidence, CORRECT, self.query_set)
        scores = regression_scores(signal.target, signal.references, signal.membership, self.c)
        return over_population(scores, evidence.game)
