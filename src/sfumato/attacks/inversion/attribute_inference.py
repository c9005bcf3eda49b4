"""Attribute inference: which value of a hidden attribute makes the model surest of the record's class?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.base import AttributeInference, Reconstructions
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.attacks.inversion.population_baseline import PopulationFit
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.targets.answers import logit_scaled
from sfumato.types import Floats, Ints
from sfumato.validate import in_range

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)  # of the log-probability
ODDS_WEIGHTS = (0.0, 0.05, 0.1, 0.25, 0.5)
TINY = 1e-12
FLOOR = -100.0  # of log-probabilities, so that a score of 0 (rounded, or hidden by a guard) is a number


def posterior(prior: Floats, evidence: Floats) -> Floats:
    """float64 [q, v]: Bayes' rule, the prior [q, v] times exp(evidence [q, v]), to a sum of 1 in each row.

    Where the evidence of a row is the same for all values, its prior comes back untouched.
    """
    raised = evidence - evidence.max(axis=1, keepdims=True)
    weighted = prior * np.exp(raised)
    told = weighted / weighted.sum(axis=1, keepdims=True)
    return np.where((raised == 0).all(axis=1, keepdims=True), prior, told)


def ranked(values: Floats, weights: Floats, queries: int, facts: dict[str, float]) -> Reconstructions:
    """The values [v] of each record, those with the largest weight [q, v] first; equal ones in their order."""
    order = np.argsort(-weights, axis=1, kind="stable")
    records = np.asarray(values, dtype=np.float32)[order][..., None]
    return Reconstructions(records, np.take_along_axis(weights, order, axis=1), queries, facts=facts)


def sureness(evidence: AttributeEvidence, records: Floats, labels: Ints) -> Floats:
    """float64 [q, v, 2]: the model's log p and log p / (1 - p) of each record's class with each value filled in.

    Log p tells values apart of which one makes the model wrong. Where a model knows a record by heart, p is next to 1
    with any value, and only the log-odds still tell them apart.

    Args:
        evidence: with the oracle, the column and the v values.
        records: [q, features].
        labels: int64 [q], the classes.
    """
    rows, x = np.arange(len(records)), torch.from_numpy(np.array(records, dtype=np.float32))
    told = []
    for value in evidence.values:
        x[:, evidence.column] = float(value)
        scores = evidence.oracle.scores(x).double().numpy().clip(min=FLOOR)
        told.append(np.stack([scores[rows, labels], logit_scaled(scores, labels)], axis=1))
    return np.stack(told, axis=1)


def best_weights(prior: Floats, told: Floats, values: Ints, choices: Sequence[tuple[float, float]]) -> Floats:
    """float64 [2]: of the pairs of weights of `sureness`, the one with the least log-loss on known values.

    Args:
        prior: float64 [p, v].
        told: float64 [p, v, 2], as from `sureness`.
        values: int64 [p], the position of each record's value.
        choices: pairs to choose from; the first of equal ones is taken.
    """
    rows = np.arange(len(values))
    losses = [-np.log(posterior(prior, told @ pair)[rows, values].clip(min=TINY)).mean() for pair in choices]
    return np.array(choices[int(np.argmin(losses))])


@dataclass(frozen=True, kw_only=True)
class AttributeInferenceByScores(AttributeInference):
    """Bayes' rule: what public records tell of the value, times how sure the model is of the true class with it.

    The prior is the honest baseline itself (`population_baseline`), a classifier from the class and all other
    attributes to the hidden one, learned from public records alone. So the attack and the baseline differ by what the
    model adds, and a model that does not look at the attribute leaves the baseline as it is.

    How sure it is, is told by log p and log p / (1 - p), each with a weight, as the class has told the baseline
    something already: the attacker takes the weights that do best on public records, whose values are known and whose
    baseline was learned without them; but none below `least` for log p. For the model never saw those records, and
    what it memorised of others does not show there.

    Args:
        weight: of log p, in [0, 100]; 0 leaves it out, None takes the best on public records.
        least: smallest weight of log p that is taken so, in [0, 2].
        odds_weight: of log p / (1 - p), in [0, 100]; 0 leaves it out, None takes the best on public records.
    """

    name: ClassVar[str] = "attribute-inference"
    reference: ClassVar[str] = "yeom2018privacy"
    summary: ClassVar[str] = "Which value of a hidden attribute makes the model surest of the record's class?"
    bibtex: ClassVar[str] = LossThreshold.bibtex  # the same paper
    reconstruction: ClassVar[str] = "The prior, and how it is joined with the model's answers, are our choices."

    weight: float | None = None
    least: float = 0.5

    odds_weight: float | None = None

    def __post_init__(self) -> None:
        in_range("least", self.least, 0, WEIGHTS[-1])
        for name, weight in (("weight", self.weight), ("odds_weight", self.odds_weight)):
            if weight is not None:
                in_range(name, weight, 0, 100)

    def fits(self, evidence: AttributeEvidence) -> tuple[Fit, ...]:
        return (PopulationFit(evidence=evidence),)

    def reconstruct(self, evidence: AttributeEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        before, prior = evidence.oracle.queries, fitted[0]["probabilities"]
        weights = self._chosen(evidence, fitted[0])
        told = posterior(prior, sureness(evidence, evidence.records, evidence.labels) @ weights)
        changed = float((told.argmax(axis=1) != prior.argmax(axis=1)).mean())
        facts = {"unlike_the_baseline": changed, "weight": float(weights[0]), "odds_weight": float(weights[1])}
        return ranked(evidence.values, told, evidence.oracle.queries - before, facts)

    def _chosen(self, evidence: AttributeEvidence, fitted: dict[str, Floats]) -> Floats:
        """float64 [2]: the weights given, the best on public records for those that were not."""
        first = [w for w in WEIGHTS if w >= self.least] if self.weight is None else [self.weight]
        second = ODDS_WEIGHTS if self.odds_weight is None else [self.odds_weight]
        choices = list(product(first, second))
        if len(choices) == 1:
            return np.array(choices[0])
        rows = fitted["rows"].astype(np.int64)
        public, values = evidence.public.tensor(rows).numpy(), np.asarray(evidence.public_values)[rows]
        told = sureness(evidence, public, evidence.public.label_array[rows])
        return best_weights(fitted["held_out"], told, values, choices)
