"""What the models are good for: metrics on records outside each training set, with intervals over models."""

from __future__ import annotations

import numpy as np

from sfumato.audit.record import Finding
from sfumato.audit.statistics import clopper_pearson, mean_interval
from sfumato.errors import NotApplicable
from sfumato.training.metrics import METRICS, metric
from sfumato.types import Bools, Floats, Ints

_METHOD = "t interval over models; all share one population, and it speaks of these records"


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
    if len(logits) == 1:
        return _of_one_model(logits[0], labels, members[0], confidence)
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
    n_out, n_in = int((~members).sum()), int(members.sum())
    values = {m.name: _value(m.name, logits[~members], labels[~members]) for m in METRICS if m.name != "accuracy"}
    inside, outside = _hits(logits, labels, members), _hits(logits, labels, ~members)
    values["generalisation-gap"] = _share(inside) - _share(outside)
    return [
        _accuracy("accuracy", outside, confidence, n_in, n_out),
        _accuracy("training-accuracy", inside, confidence, n_in, n_out),
        *(_finding(name, np.array([value]), confidence, n_in, n_out) for name, value in values.items()),
    ]


def _hits(logits: Floats, labels: Ints, rows: Bools) -> Bools:
    return logits[rows].argmax(axis=1) == labels[rows]


def _share(hits: Bools) -> float:
    return float(hits.mean()) if hits.size else float("nan")


def _accuracy(name: str, hits: Bools, confidence: float, n_members: int, n_nonmembers: int) -> Finding:
    if hits.size == 0:
        return _finding(name, np.array([np.nan]), confidence, n_members, n_nonmembers)
    ci = clopper_pearson(int(hits.sum()), hits.size, confidence)
    return Finding(
        name=name,
        value=_share(hits),
        low=float(ci.low),
        high=float(ci.high),
        confidence=confidence,
        method="Clopper-Pearson, records taken as independent; one model, so nothing is known of other trainings",
        n_members=n_members,
        n_nonmembers=n_nonmembers,
    )


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
