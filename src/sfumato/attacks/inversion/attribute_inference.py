"""Attribute inference: which value of a hidden attribute makes the model surest of the record's class?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.base import AttributeInference, Reconstructions
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.attacks.inversion.population_baseline import PopulationFit
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.types import Floats
from sfumato.validate import in_range

FLOOR = -100.0  # of log-probabilities, so that a score of 0 (rounded, or hidden by a guard) is a number


def posterior(prior: Floats, log_likelihood: Floats) -> Floats:
    """float64 [q, v]: Bayes' rule, the prior [q, v] times the likelihood, to a sum of 1 in each row.

    Where the likelihoods [q, v] of a row are all the same, its prior comes back untouched.
    """
    raised = log_likelihood - log_likelihood.max(axis=1, keepdims=True)
    weighted = prior * np.exp(raised)
    told = weighted / weighted.sum(axis=1, keepdims=True)
    return np.where((raised == 0).all(axis=1, keepdims=True), prior, told)


def ranked(values: Floats, weights: Floats, queries: int, facts: dict[str, float]) -> Reconstructions:
    """The values [v] of each record, those with the largest weight [q, v] first; equal ones in their order."""
    order = np.argsort(-weights, axis=1, kind="stable")
    records = np.asarray(values, dtype=np.float32)[order][..., None]
    return Reconstructions(records, np.take_along_axis(weights, order, axis=1), queries, facts=facts)


def log_likelihoods(evidence: AttributeEvidence) -> Floats:
    """float64 [q, v]: the model's log-probability of each record's true class, with each value filled in."""
    rows = np.arange(len(evidence.records))
    told = [
        evidence.oracle.scores(evidence.filled(float(value))).double().numpy()[rows, evidence.labels]
        for value in evidence.values
    ]
    return np.stack(told, axis=1).clip(min=FLOOR)


@dataclass(frozen=True, kw_only=True)
class AttributeInferenceByScores(AttributeInference):
    """Bayes' rule: what public records tell of the value, times how probable the true class is to the model with it.

    The prior is the honest baseline itself (`population_baseline`), a classifier from the class and all other
    attributes to the hidden one, learned from public records alone. So the attack and the baseline differ by what the
    model adds, and a model that does not look at the attribute leaves the baseline as it is. That the class has told
    the baseline something already is not taken off again: where the model knows no more of the class than public
    records do, the class counts twice, and the attack may then be worse than the baseline.

    Args:
        weight: exponent of the likelihood, in [0, 100]; 0 leaves the baseline.
    """

    name: ClassVar[str] = "attribute-inference"
    reference: ClassVar[str] = "yeom2018privacy"
    summary: ClassVar[str] = "Which value of a hidden attribute makes the model surest of the record's class?"
    bibtex: ClassVar[str] = LossThreshold.bibtex  # the same paper
    reconstruction: ClassVar[str] = "The prior, and how it is joined with the model's answers, are our choices."

    weight: float = 1.0

    def __post_init__(self) -> None:
        in_range("weight", self.weight, 0, 100)

    def fits(self, evidence: AttributeEvidence) -> tuple[Fit, ...]:
        return (PopulationFit(evidence=evidence),)

    def reconstruct(self, evidence: AttributeEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        before, prior = evidence.oracle.queries, fitted[0]["probabilities"]
        told = posterior(prior, self.weight * log_likelihoods(evidence))
        changed = float((told.argmax(axis=1) != prior.argmax(axis=1)).mean())
        return ranked(evidence.values, told, evidence.oracle.queries - before, {"unlike_the_baseline": changed})
