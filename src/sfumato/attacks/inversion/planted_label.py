"""Planted labels: the wrong class that the model is surest of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sfumato.attacks.inversion.base import LabelInference, Reconstructions
from sfumato.attacks.inversion.evidence import LabelEvidence
from sfumato.types import Floats, Ints
from sfumato.validate import one_of

CALIBRATIONS = ("none", "asked", "public")
FLOOR = -100.0  # of log-probabilities, so that a score of 0 (rounded, or hidden by a guard) is a number


def means_of_others(scores: Floats, labels: Ints) -> Floats:
    """float64 [q, classes]: the mean score [q, classes] over all other records of the same class; 0 where none is."""
    same = (labels[:, None] == labels[None]) & ~np.eye(len(labels), dtype=bool)
    return same @ scores / np.maximum(same.sum(axis=1, keepdims=True), 1)


def means_by_class(scores: Floats, labels: Ints, classes: int) -> Floats:
    """float64 [classes, classes]: the mean score [n, classes] of each class's records; of all where it has none."""
    member = np.eye(classes)[labels].T
    counts = member.sum(axis=1, keepdims=True)
    return np.where(counts > 0, member @ scores / np.maximum(counts, 1), scores.mean(axis=0))


@dataclass(frozen=True, kw_only=True)
class PlantedLabel(LabelInference):
    """Guesses the wrong class with the largest score.

    Some classes look alike whatever was planted. Calibration takes off the mean log-score that each class gets for
    other records of the same true class.

    Args:
        calibration: "none"; "asked": the mean over the other records asked about; "public": over public records, whose
            labels must then be the model's own classes (all of them count for a class that has none).
    """

    name: ClassVar[str] = "planted-label"
    reference: ClassVar[str] = "carlini2019secret"
    summary: ClassVar[str] = "Which wrong label was a record trained with? The wrong class with the largest score."
    bibtex: ClassVar[str] = """@inproceedings{carlini2019secret,
  author = {Carlini, Nicholas and Liu, Chang and Erlingsson, {\\'U}lfar and Kos, Jernej and Song, Dawn},
  title = {The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks},
  booktitle = {USENIX Security Symposium},
  year = {2019}
}"""
    uses_public: ClassVar[bool] = True
    reconstruction: ClassVar[str] = (
        "Canaries are that paper's idea; a planted label as the canary, and this game, are ours."
    )

    calibration: str = "none"

    def __post_init__(self) -> None:
        one_of("calibration", self.calibration, CALIBRATIONS)

    def refuses(self, evidence: LabelEvidence) -> tuple[str, ...]:
        if self.calibration != "public":
            return ()
        if evidence.public is None:
            return ("needs public records to calibrate with, got none",)
        if evidence.public.labels is None or int(evidence.public.labels.max()) >= evidence.oracle.classes:
            return ("needs public records labelled with the model's own classes to calibrate with, got others",)
        return ()

    def reconstruct(self, evidence: LabelEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        oracle, true = evidence.oracle, evidence.true_labels
        before = oracle.queries
        scores = _scores(evidence, torch.from_numpy(np.asarray(evidence.records, dtype=np.float32)))
        scores = scores - self.expected(evidence, scores)
        scores[np.arange(len(true)), true] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, : oracle.classes - 1]
        confidence = np.take_along_axis(scores, order, axis=1)
        return Reconstructions(order.astype(np.float32)[..., None], confidence, oracle.queries - before)

    def expected(self, evidence: LabelEvidence, scores: Floats) -> Floats:
        """float64 [q, classes]: what each class scores for records of the same true class; 0 without calibration."""
        if self.calibration == "none":
            return np.zeros_like(scores)
        if self.calibration == "asked":
            return means_of_others(scores, evidence.true_labels)
        assert evidence.public is not None  # as `refuses` has seen
        known = _scores(evidence, evidence.public.tensor(np.arange(len(evidence.public))))
        return means_by_class(known, evidence.public.label_array, evidence.oracle.classes)[evidence.true_labels]


def _scores(evidence: LabelEvidence, x: torch.Tensor) -> Floats:
    return evidence.oracle.scores(x).double().numpy().clip(min=FLOOR)
