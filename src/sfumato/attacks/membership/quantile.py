"""Quantile regression: predict from a record alone how sure of it a model is that never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.fits import Fit
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.quantile_fits import BoostedFit, NetworkFit, exceedance_levels
from sfumato.attacks.membership.signals import finite, over_population
from sfumato.errors import NotApplicable, UsageError
from sfumato.seeding import derive
from sfumato.types import Floats
from sfumato.validate import at_least, one_of

FEWEST_PUBLIC = 50


def gaussian_scores(hinge: Floats, location: Floats, scale: Floats) -> Floats:
    """s = (h - mu(x)) / sigma(x), all [n]. Section 3, arXiv 2307.03694, with the Gaussian head of its code."""
    return (hinge - location) / scale


def pinball_scores(hinge: Floats, quantiles: Floats, exceedance: Floats) -> Floats:
    """s = -log10 of the share of non-members like x that the model is surer of. Section 3, arXiv 2307.03694.

    Interpolated linearly between the quantiles; beyond the outermost two their line goes on, so that nothing ties.

    Args:
        hinge: [n].
        quantiles: [n, levels]; sorted here along the levels, so that quantiles do not cross.
        exceedance: [levels], falling shares in (0, 1) of non-members above each quantile.

    Returns:
        float64 [n].
    """
    ordered = np.sort(quantiles, axis=1)
    least = 1e-6 * max(float(ordered[:, -1].mean() - ordered[:, 0].mean()), 1e-6)
    ordered = ordered + least * np.arange(ordered.shape[1])  # equal quantiles must not divide by 0
    heights = -np.log10(exceedance)
    below = np.clip((ordered <= hinge[:, None]).sum(axis=1) - 1, 0, len(heights) - 2)
    at = np.arange(len(hinge))
    low, high = ordered[at, below], ordered[at, below + 1]
    return heights[below] + (heights[below + 1] - heights[below]) * (hinge - low) / (high - low)


@dataclass(frozen=True, kw_only=True)
class Quantile(MembershipAttack):
    """One extra model, trained on known non-members, in place of shadow models.

    Args:
        learner: "auto" (boosted trees for tables, a network for images), "network" (of the target's kind and size) or
            "boosted" (gradient-boosted trees on record and label, tables only).
        head: "gaussian" (mean and standard deviation) or "pinball" (quantiles).
        levels: number of quantiles for "pinball", log-spaced in the share of non-members above; 41 in the paper's code.
        epochs: most passes of the network over the public records; it stops early on a fifth of them held out.
    """

    name: ClassVar[str] = "quantile"
    reference: ClassVar[str] = "bertran2023scalable"
    bibtex: ClassVar[str] = """@inproceedings{bertran2023scalable,
  title = {Scalable Membership Inference Attacks via Quantile Regression},
  author = {Bertran, Martin and Tang, Shuai and Kearns, Michael and Morgenstern, Jamie and Roth, Aaron and
            Wu, Zhiwei Steven},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}"""
    summary: ClassVar[str] = "The hinge score against its predicted distribution for non-members; no shadow models."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="Records of the same population that were not trained on; not the recipe."
    )

    learner: str = "auto"
    head: str = "gaussian"
    levels: int = 41
    epochs: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("learner", self.learner, ("auto", "network", "boosted"))
        one_of("head", self.head, ("gaussian", "pinball"))
        at_least("levels", self.levels, 3)
        at_least("epochs", self.epochs, 1)

    def needs(self) -> Needs:
        return Needs(public=True, records=True, queries=self.query_set, fits_per_target=1)

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        reasons = super().applies_to(evidence)
        if not reasons and int(evidence.public.sum()) < FEWEST_PUBLIC:
            known = int(evidence.public.sum())
            reasons += (f"needs at least {FEWEST_PUBLIC} records known to be non-members, got {known}",)
        learner = self._learner(evidence)
        if learner == "network" and evidence.model is None:
            reasons += ("needs to know the target's kind of network to train one of its size",)
        if learner == "boosted" and evidence.kind != "table":
            reasons += ("needs a table for boosted trees",)
        return reasons

    def fits(self, evidence: Evidence) -> tuple[Fit, ...]:
        for reason in self.applies_to(evidence):
            raise NotApplicable(f"The attack quantile {reason}.")
        common: dict[str, Any] = {
            "records": evidence.records,
            "labels": evidence.labels,
            "public": np.flatnonzero(evidence.public),
            "scores": self._hinge(evidence)[evidence.public],
            "exceedance": exceedance_levels(self.levels) if self.head == "pinball" else np.empty(0),
            "seed": derive(evidence.seed, self.name),
        }
        if evidence.model is not None and self._learner(evidence) == "network":
            return (NetworkFit(**common, model=evidence.model, epochs=self.epochs),)
        return (BoostedFit(**common),)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        if len(fitted) != 1:
            raise UsageError(
                f"Expected the result of the one fit of quantile, got {len(fitted)}.",
                remedy="Run `fits(evidence)` and pass their results.",
            )
        game, of = evidence.game, fitted[0]
        hinge = self._hinge(evidence)[game]
        if self.head == "gaussian":
            scores = gaussian_scores(hinge, of["location"][game], of["scale"][game])
        else:
            scores = pinball_scores(hinge, of["quantiles"][game], exceedance_levels(self.levels))
        return over_population(scores, game)

    def _learner(self, evidence: Evidence) -> str:
        if self.learner != "auto":
            return self.learner
        return "boosted" if evidence.kind == "table" else "network"

    def _hinge(self, evidence: Evidence) -> Floats:
        return finite(evidence.target_statistic("hinge", self.query_set)).mean(axis=1)
