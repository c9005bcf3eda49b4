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
ODDS_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)  # of the log-odds, in units of `spread`
TINY = 1e-12
FLOOR = -100.0  # of log-probabilities, so that a score of 0 (rounded, or hidden by a guard) is a number

Weights = tuple[float, float]  # of log p and of the log-odds


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


def spread(odds: Floats) -> float:
    """Root mean square of log-odds [p, v] about the mean of each row; 1 where a model tells no value from another.

    Log-odds of an overfitted network differ by tens, and would drown what the population tells.
    """
    found = float(np.sqrt(np.mean((odds - odds.mean(axis=1, keepdims=True)) ** 2)))
    return found if found > 0 else 1.0


def best_weights(prior: Floats, told: Floats, values: Ints, choices: Sequence[Weights]) -> Weights:
    """Of the pairs of weights of `sureness`, the one with the least log-loss on known values.

    Args:
        prior: float64 [p, v].
        told: float64 [p, v, 2], as from `sureness`.
        values: int64 [p], the position of each record's value.
        choices: pairs to choose from; the first of equal ones is taken.
    """
    rows = np.arange(len(values))
    losses = [-np.log(posterior(prior, told @ pair)[rows, values].clip(min=TINY)).mean() for pair in choices]
    return choices[int(np.argmin(losses))]


@dataclass(frozen=True, kw_only=True)
class AttributeInferenceByScores(AttributeInference):
    """Bayes' rule: what public records tell of the value, times how sure the model is of the true class with it.

    The prior is the honest baseline itself (`population_baseline`), a classifier from the class and all other
    attributes to the hidden one, learned from public records alone. So the attack and the baseline differ by what the
    model adds, and a model that does not look at the attribute leaves the baseline as it is.

    How sure it is, is told by log p and by log p / (1 - p) over its spread on public records, each with a weight, as
    the class has told the baseline something already. The attacker takes the weights that do best on public records,
    whose values are known and whose baseline was learned without them; but none below `least` and `least_odds`. For the
    model never saw those records, and what it memorised of others does not show there.

    Args:
        weight: of log p, in [0, 100]; 0 leaves it out, None takes the best on public records.
        least: smallest weight of log p that is taken so, in [0, 2].
        odds_weight: of log p / (1 - p), in [0, 100]; 0 leaves it out, None takes the best on public records.
        least_odds: smallest weight of log p / (1 - p) that is taken so, in [0, 1].
    """

    name: ClassVar[str] = "attribute-inference"
    reference: ClassVar[str] = "yeom2018privacy"
    summary: ClassVar[str] = "Which value of a hidden attribute makes the model surest of the record's class?"
    bibtex: ClassVar[str] = LossThreshold.bibtex  # the same paper
    reconstruction: ClassVar[str] = "The prior, and how it is joined with the model's answers, are our choices."

    weight: float | None = None
    least: float = 0.5
    odds_weight: float | None = None
    least_odds: float = 0.1

    def __post_init__(self) -> None:
        in_range("least", self.least, 0, WEIGHTS[-1])
        in_range("least_odds", self.least_odds, 0, ODDS_WEIGHTS[-1])
        for name, weight in (("weight", self.weight), ("odds_weight", self.odds_weight)):
            if weight is not None:
                in_range(name, weight, 0, 100)

    def fits(self, evidence: AttributeEvidence) -> tuple[Fit, ...]:
        return (PopulationFit(evidence=evidence),)

    def reconstruct(self, evidence: AttributeEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        before, prior = evidence.oracle.queries, fitted[0]["probabilities"]
        unit, weights = self._learned(evidence, fitted[0])
        told = sureness(evidence, evidence.records, evidence.labels) / [1.0, unit]
        found = posterior(prior, told @ weights)
        changed = float((found.argmax(axis=1) != prior.argmax(axis=1)).mean())
        facts = {"unlike_the_baseline": changed, "weight": weights[0], "odds_weight": weights[1]}
        return ranked(evidence.values, found, evidence.oracle.queries - before, facts)

    def _learned(self, evidence: AttributeEvidence, fitted: dict[str, Floats]) -> tuple[float, Weights]:
        """From public records: the spread of log-odds, and the best of the weights that were not given."""
        rows = fitted["rows"].astype(np.int64)
        public, values = evidence.public.tensor(rows).numpy(), np.asarray(evidence.public_values)[rows]
        told = sureness(evidence, public, evidence.public.label_array[rows])
        unit = spread(told[..., 1])
        first = [w for w in WEIGHTS if w >= self.least] if self.weight is None else [self.weight]
        second = [w for w in ODDS_WEIGHTS if w >= self.least_odds] if self.odds_weight is None else [self.odds_weight]
        return unit, best_weights(fitted["held_out"], told / [1.0, unit], values, list(product(first, second)))
