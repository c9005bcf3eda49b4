"""Running sums over the repeats of a query, from which every average is formed without keeping an answer."""

from __future__ import annotations

import numpy as np

from sfumato.targets.answers import STATISTICS, hinge, logit_scaled, right, scalar_name, statistic
from sfumato.types import Floats, Ints


class Averages:
    """The answers to one variant of some records, repeat after repeat.

    Args:
        labels: int64 [records].
    """

    def __init__(self, labels: Ints) -> None:
        self.labels, self.count = labels, 0
        self._sums: dict[str, Floats] = {name: np.zeros(len(labels)) for name in STATISTICS}
        self._logits: Floats = np.zeros(())
        self._log_probabilities: Floats = np.full((), -np.inf)
        self._mean, self._squares = np.zeros(len(labels)), np.zeros(len(labels))
        self._right: Floats = np.zeros(len(labels))

    def add(self, logits: Floats) -> None:
        """One more repeat: [records, classes]."""
        logits = np.asarray(logits, dtype=np.float64)
        self.count += 1
        for name in STATISTICS:
            self._sums[name] += statistic(name, logits, self.labels)
        self._right += right(hinge(logits, self.labels))
        self._logits = self._logits + logits
        self._log_probabilities = np.logaddexp(self._log_probabilities, _log_softmax(logits))
        confidence = logit_scaled(logits, self.labels)
        gap = confidence - self._mean  # Welford: sums of squares would cancel where the draws hardly differ
        self._mean += gap / self.count
        self._squares += gap * (confidence - self._mean)

    def table(self) -> dict[str, Floats]:
        """Name -> float64 [records]: what `Answers.scalars` keeps of one variant, after the repeats so far.

        "deviation" is the sample standard deviation of the logit-scaled confidence, 0 for a single answer; "correct" is
        the share of the answers with the right label.
        """
        found: dict[str, Floats] = {name: total / self.count for name, total in self._sums.items()}
        means = {  # of the probabilities, the log of their sum: no statistic sees a constant
            "logits": self._logits / self.count,
            "probabilities": self._log_probabilities,
        }
        for average, mean in means.items():
            found |= {scalar_name(name, average): statistic(name, mean, self.labels) for name in STATISTICS}
        deviation = np.sqrt(self._squares / max(1, self.count - 1))
        return found | {"deviation": deviation, "correct": self._right / self.count}


def _log_softmax(logits: Floats) -> Floats:
    highest = logits.max(axis=-1, keepdims=True)
    return logits - highest - np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True))
