"""Attribute inference: which value of a hidden attribute makes the model surest of the record's class?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.base import AttributeInference, Reconstructions
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.attacks.inversion.population_baseline import PopulationFit
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.types import Floats, Ints
from sfumato.validate import in_range

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
TINY = 1e-12
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


def log_likelihoods(evidence: AttributeEvidence, records: Floats, labels: Ints) -> Floats:
    """float64 [q, v]: the model's log-probability of each record's class with each value in the hidden column.

    Args:
        evidence: with the oracle, the column and the v values.
        records: [q, features].
        labels: int64 [q], the classes.
    """
    rows, x = np.arange(len(records)), torch.from_numpy(np.array(records, dtype=np.float32))
    told = []
    for value in evidence.values:
        x[:, evidence.column] = float(value)
        told.append(evidence.oracle.scores(x).double().numpy()[rows, labels])
    return np.stack(told, axis=1).clip(min=FLOOR)


def best_weight(prior: Floats, likelihood: Floats, values: Ints, least: float = 0.0) -> float:
    """Of `WEIGHTS` from `least` on, the exponent of the likelihood [p, v] with the least log-loss on known values.

    The smallest of equal ones; `values` are int64 [p]. The model never saw these records: an exponent of 0, fitted to
    them alone, would make the attacker blind to what it learned by heart.
    """
    rows, weights = np.arange(len(values)), [w for w in WEIGHTS if w >= least]
    losses = [-np.log(posterior(prior, w * likelihood)[rows, values].clip(min=TINY)).mean() for w in weights]
    return weights[int(np.argmin(losses))]


@dataclass(frozen=True, kw_only=True)
class AttributeInferenceByScores(AttributeInference):
    """Bayes' rule: what public records tell of the value, times how probable the true class is to the model with it.

    The prior is the honest baseline itself (`population_baseline`), a classifier from the class and all other
    attributes to the hidden one, learned from public records alone. So the attack and the baseline differ by what the
    model adds, and a model that does not look at the attribute leaves the baseline as it is. As the class has told the
    baseline something already, the likelihood gets an exponent: the attacker takes the one that does best on public
    records, whose values are known and whose baseline was learned without them, but none below `least`. For the model
    never saw those records, and what it memorised of others does not show there.

    Args:
        weight: exponent of the likelihood, in [0, 100]; 0 leaves the baseline, None takes the best on public records.
        least: smallest exponent that is taken so, in [0, 2].
    """

    name: ClassVar[str] = "attribute-inference"
    reference: ClassVar[str] = "yeom2018privacy"
    summary: ClassVar[str] = "Which value of a hidden attribute makes the model surest of the record's class?"
    bibtex: ClassVar[str] = LossThreshold.bibtex  # the same paper
    reconstruction: ClassVar[str] = "The prior, and how it is joined with the model's answers, are our choices."

    weight: float | None = None
    least: float = 0.5

    def __post_init__(self) -> None:
        in_range("least", self.least, 0, WEIGHTS[-1])
        if self.weight is not None:
            in_range("weight", self.weight, 0, 100)

    def fits(self, evidence: AttributeEvidence) -> tuple[Fit, ...]:
        return (PopulationFit(evidence=evidence),)

    def reconstruct(self, evidence: AttributeEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        before, prior = evidence.oracle.queries, fitted[0]["probabilities"]
        weight = self._chosen(evidence, fitted[0]) if self.weight is None else self.weight
        told = posterior(prior, weight * log_likelihoods(evidence, evidence.records, evidence.labels))
        changed = float((told.argmax(axis=1) != prior.argmax(axis=1)).mean())
        facts = {"unlike_the_baseline": changed, "weight": weight}
        return ranked(evidence.values, told, evidence.oracle.queries - before, facts)

    def _chosen(self, evidence: AttributeEvidence, fitted: dict[str, Floats]) -> float:
        rows = fitted["rows"].astype(np.int64)
        public, values = evidence.public.tensor(rows).numpy(), np.asarray(evidence.public_values)[rows]
        likelihood = log_likelihoods(evidence, public, evidence.public.label_array[rows])
        return best_weight(fitted["held_out"], likelihood, values, self.least)
