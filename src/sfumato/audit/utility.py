"""What the models are good for: metrics on records outside each training set, with intervals over models."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfumato.audit.record import Finding
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import clopper_pearson, mean_interval
from sfumato.data.canaries import GROUP, NONE
from sfumato.data.classes import unit_is_class
from sfumato.data.membership import Membership
from sfumato.data.owners import planted_rows
from sfumato.data.population import Population
from sfumato.errors import NotApplicable
from sfumato.targets.answers import Answers
from sfumato.targets.queries import QuerySet
from sfumato.training.metrics import METRICS, metric
from sfumato.types import Bools, Floats, Ints

NATURAL = "natural"
FEWEST_ASKED = 10  # records of one model; the accuracy of fewer says nothing
_METHOD = (
    "t interval over models, within the range of the metric; all share one population, and it speaks of these records"
)


class Range(NamedTuple):
    """Least and largest value."""

    least: float
    most: float


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


def honest(population: Population) -> Bools:
    """bool [n]: the records that usefulness is measured on: as they came, so no canaries but natural ones, and none
    with a planted label.
    """
    counted = np.ones(len(population), dtype=bool)
    counted[planted_rows(population)] = False
    kinds = population.groups.get(GROUP)
    return counted if kinds is None else counted & np.isin(np.asarray(kinds).astype(str), [NONE, NATURAL])


def usefulness(
    answers: Answers,
    members: Bools,
    population: Population,
    membership: Membership,
    settings: AuditSettings,
    random: bool,
) -> list[Finding]:
    """What a subject is good for; where it answers at random, also with several draws and with none.

    Args:
        answers: of the targets, M models.
        members: bool [M, units], who was trained on.
        population: n records.
        membership: who is in the game, and was asked more.
        settings: level, and numbers of draws.
        random: whether it answers at random.
    """
    counted, confidence, inside = honest(population), settings.confidence, members[:, population.unit_of]
    found = utility(answers.logits, answers.labels, inside, confidence, counted)
    if unit_is_class(population):
        return [one if one.name == "training-accuracy" else _no_name(one) for one in found]
    if not random:
        return found
    outside = ~inside & counted & membership.in_game[population.unit_of]
    return [*found, *utility_of_draws(answers, outside, settings.draws[-1], confidence)]


def _no_name(finding: Finding) -> Finding:
    """Where each class is one unit, a model was never shown the class of a record outside its training set."""
    told = (
        "Each class is one unit: a model that was trained without it has no name for it, and what it says of such "
        "records is no merit or fault. Read training-accuracy, which is at most too high."
    )
    return finding.model_copy(update={"value": None, "low": None, "high": None, "resolvable": False, "note": told})


def utility(
    logits: Floats, labels: Ints, members: Bools, confidence: float, counted: Bools | None = None
) -> list[Finding]:
    """Every metric on non-members, and the accuracy on members and the gap between the two.

    Args:
        logits: [models, n, classes].
        labels: int64 [n].
        members: bool [models, n].
        confidence: of each interval.
        counted: bool [n], the records that are measured on; None for all. A mislabelled canary has a wrong label by
            design, so that being right about it is no merit.
    """
    if counted is not None and not counted.all():
        found = utility(logits[:, counted], labels[counted], members[:, counted], confidence)
        note = f"{int((~counted).sum())} records of canaries are not counted: they were changed by design."
        return [one.model_copy(update={"note": " ".join(filter(None, (one.note, note)))}) for one in found]
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


def utility_of_draws(answers: Answers, outside: Bools, most: int, confidence: float) -> list[Finding]:
    """Accuracy of one draw, of the mean of the most draws and of the drift alone, on the same records.

    Args:
        answers: of M models that answer at random, to `queries.queries_of_study`.
        outside: bool [M, n], the records in the game that are outside the training set and count.
        most: the largest number of draws; the mean is that of the probabilities.
        confidence: of each interval.
    """
    mean = QuerySet(repeats=most, scope="game", average="probabilities")
    ways = {"one-draw": QuerySet(scope="game"), f"mean-of-{most}-draws": mean, "drift-alone": QuerySet(noise="off")}
    if most == 1:
        del ways["mean-of-1-draws"]
    return [_of_draws(f"accuracy-{name}", answers, queries, outside, confidence) for name, queries in ways.items()]


def _of_draws(name: str, answers: Answers, queries: QuerySet, outside: Bools, confidence: float) -> Finding:
    counts = {"n_nonmembers": int(outside.sum()), "confidence": confidence}
    empty = {"value": None, "low": None, "high": None, "resolvable": False}
    fewest = int(outside.sum(axis=1).min())
    if fewest < FEWEST_ASKED:
        note = f"Only {fewest} records outside the training set were asked so."
        return Finding(name=name, note=note, **empty, **counts)
    if not answers.scalars.get(queries.key):
        return Finding(name=name, note="The network is out of reach, so it could not be asked so.", **empty, **counts)
    hits = answers.statistic("hinge", queries)[..., 0] > 0  # the label's logit is the largest
    if len(hits) == 1:
        return _accuracy(name, hits[0][outside[0]], confidence, 0, counts["n_nonmembers"])
    values = np.array([hit[rows].mean() for hit, rows in zip(hits, outside, strict=True)])
    return _finding(name, values, confidence, 0, counts["n_nonmembers"])


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


def range_of(name: str) -> Range:
    """The values that a metric can have; a t interval of few models knows nothing of them, and is cut there."""
    return {"log-loss": Range(0.0, np.inf), "generalisation-gap": Range(-1.0, 1.0)}.get(name, Range(0.0, 1.0))


def _finding(name: str, values: Floats, confidence: float, n_members: int, n_nonmembers: int) -> Finding:
    counts = {"n_members": n_members, "n_nonmembers": n_nonmembers, "confidence": confidence}
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Finding(name=name, value=None, low=None, high=None, resolvable=False, note="not defined here", **counts)
    if len(values) == 1:
        note = "one model: no interval over training runs"
        return Finding(name=name, value=float(values[0]), low=None, high=None, method="one model", note=note, **counts)
    ci, (least, most) = mean_interval(values, confidence), range_of(name)
    return Finding(name=name, value=ci.mean, low=max(least, ci.low), high=min(most, ci.high), method=_METHOD, **counts)
