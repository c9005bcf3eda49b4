"""How good a classifier is, from its logits. Each value is a plain number; what is undefined is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.metrics import roc_auc_score

from sfumato.errors import NotApplicable, UsageError
from sfumato.types import Floats, Ints
from sfumato.validate import one_of, same_length

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Metric:
    """A measure of utility; call it with logits [n, classes] and labels [n].

    Args:
        name: as in `metric`.
        higher_is_better: the direction.
        function: from checked logits and labels to the value.
    """

    name: str
    higher_is_better: bool
    function: Callable[[Floats, Ints], float]

    def __call__(self, logits: Floats, labels: Ints) -> float:
        """The value, from logits [n, classes] (one column per class, also for a binary head) and labels [n].

        Raises:
            UsageError: for shapes that do not fit, logits that are not finite, labels outside 0 .. classes - 1.
            NotApplicable: if the value is undefined for these labels.
        """
        _refuse_bad_input(logits, labels)
        return self.function(np.asarray(logits, dtype=np.float64), np.asarray(labels))


def metric(name: str) -> Metric:
    """The metric called "accuracy", "balanced-accuracy", "auroc", "calibration-error" or "log-loss"."""
    one_of("metric", name, [known.name for known in METRICS])
    return next(known for known in METRICS if known.name == name)


def accuracy(logits: Floats, labels: Ints) -> float:
    """Share of records whose largest logit is that of their class; among equal logits the first class counts."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def balanced_accuracy(logits: Floats, labels: Ints) -> float:
    """Mean over the classes that occur of the share of their records that is classified correctly."""
    correct = logits.argmax(axis=1) == labels
    return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))


def auroc(logits: Floats, labels: Ints) -> float:
    """Area under the ROC curve, ties counted half: the mean over classes of one against the rest ("macro").

    Records are ranked by the log-odds of the class, which order them as its probability does but do not saturate. With
    two classes both areas are one and the same.

    Raises:
        NotApplicable: if a class does not occur among the labels.
    """
    missing = sorted(set(range(logits.shape[1])) - set(np.unique(labels).tolist()))
    if missing:
        raise NotApplicable(
            f"Expected records of every class for AUROC, got none of class {', '.join(map(str, missing))}.",
            remedy="Measure on more records, or use accuracy.",
        )
    classes = range(logits.shape[1])
    return float(np.mean([roc_auc_score(labels == label, _log_odds(logits, label)) for label in classes]))


def _log_odds(logits: Floats, label: int) -> Floats:
    return logits[:, label] - np.asarray(logsumexp(np.delete(logits, label, axis=1), axis=1))


def calibration_error(logits: Floats, labels: Ints) -> float:
    """Expected calibration error of the top class: 15 bins of equal width, (0, 1/15], ..., (14/15, 1].

    Guo et al. (2017), equation 3: the mean over records of |accuracy - mean confidence| of the record's bin.
    """
    probabilities = softmax(logits, axis=1)
    confidence = probabilities.max(axis=1)
    correct = (logits.argmax(axis=1) == labels).astype(np.float64)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def log_loss(logits: Floats, labels: Ints) -> float:
    """Mean of minus the log-probability of the true class, in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


METRICS = (
    Metric("accuracy", True, accuracy),
    Metric("balanced-accuracy", True, balanced_accuracy),
    Metric("auroc", True, auroc),
    Metric("calibration-error", False, calibration_error),
    Metric("log-loss", False, log_loss),
)


def _refuse_bad_input(logits: Floats, labels: Ints) -> None:
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.ndim != 1 or not len(labels):
        raise UsageError(
            f"Expected logits [n, classes] with two classes or more and labels [n], got {logits.shape} "
            f"and {labels.shape}.",
            remedy="Pass one column per class, also for a one-logit head.",
        )
    same_length(logits=len(logits), labels=len(labels))
    if not np.isfinite(logits).all():
        raise UsageError("Expected finite logits, got NaN or infinity.", remedy="Lower the learning rate.")
    if not (np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise UsageError(
            f"Expected whole-number labels from 0 to {logits.shape[1] - 1}, got {labels.min()} to {labels.max()} "
            f"({labels.dtype}).",
            remedy="Number the classes from 0.",
        )
