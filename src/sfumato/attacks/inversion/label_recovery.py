"""Which classes were in a batch, read off the gradient of the last layer. Pure functions over arrays.

For the cross-entropy the gradient by the logit of class c is the mean over the batch of p_c - y_c: the gradient by the
last layer's bias. Only a class that is present can make it negative (Zhao, Mopuri, Bilen 2020, arXiv 2001.02610, for
one record). Without a bias, the sum over a row of the weight's gradient has the same sign, as long as the features that
the layer is given are not negative. Noise on the update makes all of it a guess.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.errors import UsageError
from sfumato.types import Floats, Ints
from sfumato.validate import at_least


class Labels(NamedTuple):
    """What was read off.

    Attributes:
        labels: int64 [size], rising.
        certain: whether an exact gradient of the cross-entropy leaves no doubt about them.
    """

    labels: Ints
    certain: bool


def class_signal(weight: Floats, bias: Floats | None = None) -> Floats:
    """float64 [classes], negative where a class is present: the bias gradient, or the row sums of the weight's.

    Args:
        weight: [outputs, features], gradient of the last layer's weight.
        bias: [outputs], of its bias, or None for a layer without one.

    Returns:
        One number for each class; the one-logit binary head, whose output is the log-odds of class 1, gives two.
    """
    signal = np.asarray(weight, dtype=np.float64).sum(axis=1) if bias is None else np.asarray(bias, dtype=np.float64)
    return np.concatenate([-signal, signal]) if len(signal) == 1 else signal


def idlg_label(signal: Floats) -> int:
    """The class of a batch of one record: the one with the smallest signal (iDLG, equation 6).

    Args:
        signal: [classes], see `class_signal`.
    """
    return int(np.argmin(signal))


def classes_present(signal: Floats) -> Ints:
    """int64, rising: the classes with a negative signal. None of them is absent; a present one may be missing."""
    return np.flatnonzero(np.asarray(signal) < 0).astype(np.int64)


def label_counts(signal: Floats, size: int) -> Ints:
    """int64 [classes], sums to `size`: how often each class is there. An estimate, ours.

    Each negative class is there once (the most negative ones, where noise made more of them than records); the rest is
    shared out so that the counts come nearest to the magnitudes, one record at a time.

    Args:
        signal: [classes], see `class_signal`.
        size: records in the batch.
    """
    at_least("size", size, 1)
    magnitude = np.maximum(0.0, -np.asarray(signal, dtype=np.float64))
    if not magnitude.any():  # noise, or a loss that is none of ours: the least unlikely
        magnitude[idlg_label(signal)] = 1.0
    counts = np.zeros(len(magnitude), dtype=np.int64)
    counts[np.argsort(-magnitude, kind="stable")[: min(size, int((magnitude > 0).sum()))]] = 1
    ideal = size * magnitude / magnitude.sum()
    while counts.sum() < size:
        counts[int(np.argmax(ideal - counts))] += 1
    return counts


def recovered_labels(signal: Floats, size: int) -> Labels:
    """The labels of a batch: by iDLG's rule for one record, else by `label_counts`.

    Args:
        signal: [classes], see `class_signal`.
        size: records in the batch.

    Raises:
        UsageError: if the signal is not finite.
    """
    if not np.isfinite(signal).all():
        raise UsageError("Expected a finite gradient to read labels off, got NaN or infinity.")
    if size == 1:
        return Labels(np.array([idlg_label(signal)], dtype=np.int64), certain=True)
    counts = label_counts(signal, size)
    return Labels(np.repeat(np.arange(len(counts)), counts), certain=len(classes_present(signal)) == size)
