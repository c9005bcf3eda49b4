"""Fredrikson's inversion of a medical model: prior of the value times the model's known errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.attribute_inference import ranked
from sfumato.attacks.inversion.base import AttributeInference, Reconstructions
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.types import Floats, Ints
from sfumato.validate import at_least


def error_statistics(truth: Ints, told: Ints, classes: int, smoothing: float) -> Floats:
    """pi float64 [classes, classes]: how often the true class is y (row) where the model says y' (column).

    Args:
        truth: int64 [n], true classes of records that the model was not trained on.
        told: int64 [n], its labels for them.
        classes: how many there are.
        smoothing: added to each count, so that nothing is impossible; above 0.
    """
    counts = np.full((classes, classes), float(smoothing))
    np.add.at(counts, (truth, told), 1.0)
    return counts / counts.sum(axis=0, keepdims=True)


def weights_of_values(prior: Floats, errors: Floats, labels: Ints, told: Ints) -> Floats:
    """float64 [q, v]: prior(value) * pi(y | y'), to a sum of 1 in each row.

    Args:
        prior: float64 [v], how frequent each value is.
        errors: `error_statistics`.
        labels: int64 [q], the true classes y.
        told: int64 [q, v], the model's labels y' with each value filled in.
    """
    weights = prior * errors[labels[:, None], told]
    return weights / weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True, kw_only=True)
class Fredrikson(AttributeInference):
    """The value with the largest prior times pi(y | y'), where y' is the model's label with it and y the true one.

    pi is how often the model's label y' goes with the true class y: its error statistics, which count as public. They
    and the prior are taken from public records. The prior does not look at the other attributes, so this attack may be
    the worse one beside the honest baseline, which does; what it gains on members is a question of its own.

    Args:
        smoothing: added to each count of the error statistics and the prior; above 0, so that there is always an order.
    """

    name: ClassVar[str] = "fredrikson"
    reference: ClassVar[str] = "fredrikson2014privacy"
    summary: ClassVar[str] = "The value with the largest prior times the model's known error statistics; labels only."
    bibtex: ClassVar[str] = """@inproceedings{fredrikson2014privacy,
  author = {Fredrikson, Matthew and Lantz, Eric and Jha, Somesh and Lin, Simon and Page, David and
            Ristenpart, Thomas},
  title = {Privacy in Pharmacogenetics: An End-to-End Case Study of Personalized Warfarin Dosing},
  booktitle = {USENIX Security Symposium},
  year = {2014}
}"""
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="labels", knowledge="All other attributes and the class of the record, and records of the population."
    )
    reconstruction: ClassVar[str] = (
        "The rule is known to us from descriptions; how the paper estimates the error statistics, and what it does "
        "where a count is 0, is not."
    )

    smoothing: float = 0.5

    def __post_init__(self) -> None:
        at_least("smoothing", self.smoothing, 1e-6)

    def reconstruct(self, evidence: AttributeEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        oracle, public = evidence.oracle, evidence.public
        before, count = oracle.queries, len(evidence.values)
        told = oracle.labels(public.tensor(np.arange(len(public))))
        errors = error_statistics(public.label_array, told, oracle.classes, self.smoothing)
        prior = np.bincount(evidence.public_values, minlength=count) + self.smoothing
        answers = np.stack([oracle.labels(evidence.filled(float(value))) for value in evidence.values], axis=1)
        weights = weights_of_values(prior / prior.sum(), errors, evidence.labels, answers)
        facts = {"answers_that_vary": float((answers != answers[:, :1]).any(axis=1).mean())}
        return ranked(evidence.values, weights, oracle.queries - before, facts)
