"""What the models are good for: metrics on records outside each training set, with intervals over models."""

from __future__ import annotations

import numpy as np

from sfumato.audit.record import Finding
from sfumato.audit.statistics import clopper_pearson, mean_interval
from sfumato.errors import NotApplicable
from sfumato.training.metrics import METRICS, metric
from sfumato.types import Bools, Floats, Ints

_METHOD = "t interval over models; metric on the records outside each training set"


def per_model(name: str, logits: Floats, labels: Ints, rows: Bools) -> Floats:
    """float64 [models]: a metric of each model on its own rows; `logits` [models, n, classes], `rows` [models, n]."""
    return np.array([_value(name, z[r], labels[r]) for z, r in zip(logits, rows, strict=True)])


def _value(name: str, logits: Floats, labels: Ints) -> float:
    """NaN where the metric is undefined, for instance AUROC when a class does not occur."""
    if len(labels) == 0:
        return float("nan")
    try:
        return metric(name)(logits.astype(np.float64), labels)
    except NotApplicable:
        return float("nan")


def utility(logits: Floats, labels: Ints, members: Bools, confidence: float) -> list[Finding]:
    """Every metric on non-members, and the accuracy on members and the gap between the two.

    Args:
        logits: [models, n, classes].
        labels: int64 [n].
        members: bool [models, n].
        confidence: of each interval.
    """
    outside = ~members
    n_out, n_in = int(outside.sum()), int(members.sum())
    findings = [_finding(m.name, per_model(m.name, logits, labels, outside), confidence, n_in, n_out) for m in METRICS]
    inside = per_model("accuracy", logits, labels, members)
    gap = inside - per_model("accuracy", logits, labels, outside)
    return [
        *findings,
        _finding("training-accuracy", inside, confidence, n_in, n_out),
        _finding("generalisation-gap", gap, confidence, n_in, n_out),
    ]


def _of_one_model(logits: Floats, labels: Ints, members: Bools, confidence: float) -> list[Finding]:
    """One given model: accuracies have an interval over records; the other metrics have none, and say so."""
    counts = {"n_members": int(members.sum()), "n_nonmembers": int((~members).sum()), "confidence": confidence}
    found = []
    for name, rows in (("accuracy", ~members), ("training-accuracy", members)):
        hits, n = int((logits[rows].argmax(axis=1) == labels[rows]).sum()), int(rows.sum())
        if n == 0:
            found.append(
                Finding(name=name, value=None, low=None, high=None, resolvable=False, note="no record", **counts)
            )
            continue
        ci = clopper_pearson(hits, n, confidence)
        method = "Clopper-Pearson over records; one model, so nothing is known of other trainings"
        found.append(
            Finding(name=name, value=hits / n, low=float(ci.low), high=float(ci.high), method=method, **counts)
        )
    for metric_ in METRICS:
        if metric_.name != "accuracy":
            value = _value(metric_.name, logits[~members], labels[~members])
            found.append(_finding(metric_.name, np.array([value]), confidence, *list(counts.values())[:2]))
    return found


def _finding(name: str, values: Floats, confidence: float, n_members: int, n_nonmembers: int) -> Finding:
    counts = {"n_members": n_members, "n_nonmembers": n_nonmembers, "confidence": confidence}
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Finding(name=name, value=None, low=None, high=None, resolvable=False, note="not defined here", **counts)
    if len(values) == 1:
        note = "one model: no interval over training runs"
        return Finding(name=name, value=float(values[0]), low=None, high=None, method="one model", note=note, **counts)
    ci = mean_interval(values, confidence)
    return Finding(name=name, value=ci.mean, low=ci.low, high=ci.high, method=_METHOD, **counts)
