"""Attack R: where the target's loss on a record lies among the losses of models that never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.attack_p import SMOOTHINGS, YE
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.attacks.membership.worlds import floored, world
from sfumato.types import Bools, Floats
from sfumato.validate import one_of


def reference_scores(target: Floats, references: Floats, outside: Bools, smoothing: str) -> Floats:
    """1 - the smallest false-positive rate at which the record is called a member. Section 4.3, arXiv 2111.09679.

    Args:
        target: [n, variants], logit-scaled confidences.
        references: [r, n, variants]; read only where `outside`.
        outside: bool [r, n], True for references trained without the record.
        smoothing: "empirical": share of the OUT references below the target, ties counting half, so m references
            resolve rates of 1/m; "linear": interpolated between neighbours at i/(m + 1), ties beyond the outermost;
            "gaussian": standard deviations (one per record) above the OUT mean on the logit scale, no ties.

    Returns:
        float64 [n], averaged over variants.
    """
    if smoothing == "gaussian":
        one = world(references, outside)
        variance = floored(one.squares / np.maximum(one.freedom, 1), one.pooled_variance)
        return ((target - one.mean) / np.sqrt(variance)).mean(axis=1)
    chosen = outside[..., None]
    if smoothing == "empirical":
        below = ((references < target) + 0.5 * (references == target)) * chosen
        return (below.sum(axis=0) / outside.sum(axis=0)[:, None]).mean(axis=1)
    return _interpolated(target, references, chosen).mean(axis=1)


def _interpolated(target: Floats, references: Floats, chosen: Bools) -> Floats:
    count = np.broadcast_to(chosen.sum(axis=0), target.shape)
    ordered = np.sort(np.where(chosen, references, np.inf), axis=0)
    rank = np.where(chosen, references <= target, False).sum(axis=0)  # neighbours are ranks `rank` and `rank + 1`
    low = np.take_along_axis(ordered, np.maximum(rank - 1, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(rank, count - 1)[None], axis=0)[0]
    width = high - low
    part = np.where(width > 0, (target - low) / np.where(width > 0, width, 1.0), 0.0)
    return np.clip(rank + np.clip(part, 0.0, 1.0), 1, count) / (count + 1)


@dataclass(frozen=True, kw_only=True)
class AttackR(MembershipAttack):
    """One threshold per record, set on reference models.

    Args:
        smoothing: "gaussian" (default), "linear" or "empirical"; see `reference_scores`.
    """

    name: ClassVar[str] = "attack-r"
    reference: ClassVar[str] = "ye2022enhanced"
    bibtex: ClassVar[str] = YE
    summary: ClassVar[str] = "The record's loss among the losses of models trained without it."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models trained without the records in question."
    )

    smoothing: str = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("smoothing", self.smoothing, SMOOTHINGS)

    def needs(self) -> Needs:
        return Needs(references="out", minimum_references=2, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        signal = read_signal(evidence, "logit", self.query_set)
        scores = reference_scores(signal.target, signal.references, ~signal.membership, self.smoothing)
        return over_population(scores, evidence.game)
