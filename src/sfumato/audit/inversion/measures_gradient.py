"""Measures of the gradient game: how near guesses come to the records of a batch, and whether to these alone.

Guesses come in any order: each is assigned to a record so that the sum of squared errors is smallest. That choice
favours whatever it is made for, and an attack that paints the average of a class is near to every record of it. So each
measure has as control the same guesses, scored by the same rule, against as many other records of the same classes.
Whoever learned the classes of the batch and no more is as near to these as to the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from sfumato.audit.inversion.estimates import Answers, average, unmeasured
from sfumato.audit.inversion.guesses import GradientGuesses
from sfumato.audit.inverted import Measure
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics.nearest import squared_distances
from sfumato.seeding import stream
from sfumato.types import Floats, Ints

DRAWS = 20  # of other records to stand in for the batch
EXACT = 1e-12  # mean squared error below which a guess counts as exact: 120 dB
_FEW = "No step has as many other records of the same classes as its batch has."
_CONTROL = "The same guesses against as many other records of the same classes, assigned by the same rule."


class Hits(NamedTuple):
    """Means over the records of one batch.

    Attributes:
        mse: mean squared error of a record against the guess assigned to it, per value.
        psnr: decibels at a range of 1; at most 120.
        identified: share of records whose guess is nearer to them than to any other record of their class.
        prior: what `identified` would be by a blind choice among these.
    """

    mse: float
    psnr: float
    identified: float
    prior: float


_NOTHING = Hits(np.nan, np.nan, np.nan, np.nan)


class Side(NamedTuple):
    """Records [n, d] and their classes [n]."""

    records: Floats
    labels: Ints


def gradient_measures(guesses: GradientGuesses, settings: AuditSettings) -> list[Measure]:
    """Every measure of guesses of one batch size; steps are the clusters, over all models."""
    steps = np.arange(guesses.steps)
    answers = Answers(np.zeros((1, guesses.steps), np.int64), steps[None], "steps", settings.confidence)
    found = [_played(guesses, int(step), settings.seed) for step in steps]
    attacked, control = np.array([one.attacked for one in found]), np.array([one.control for one in found])
    picture = guesses.records.ndim == 5
    return [
        _error(answers, attacked[:, 0], control[:, 0]),
        _decibels(answers, attacked[:, 1], control[:, 1], picture),
        _identified(answers, attacked[:, 2:], control[:, 2:]),
        labels_recovered(guesses, answers),
    ]


def scored(guesses: Floats, truth: Side, others: Side) -> Hits:
    """How near guesses [b, d] come to as many true records, beside others that they may show as well."""
    errors = squared_distances(truth.records, guesses) / max(guesses.shape[1], 1)
    rows, chosen = linear_sum_assignment(errors)
    own = errors[rows, chosen]
    away = squared_distances(others.records, guesses[chosen]) / max(guesses.shape[1], 1)
    rivals = others.labels[:, None] == truth.labels[None]
    nearer = ((away < own) & rivals).sum(axis=0)
    tied = ((away == own) & rivals).sum(axis=0)
    return Hits(
        mse=float(own.mean()),
        psnr=float((-10 * np.log10(np.maximum(own, EXACT))).mean()),
        identified=float(np.where(nearer == 0, 1 / (1 + tied), 0).mean()),
        prior=float((1 / (1 + rivals.sum(axis=0))).mean()),
    )


class _Played(NamedTuple):
    """The batch itself, and the mean over draws of other records in its place; NaN where there are too few."""

    attacked: Hits
    control: Hits


def _played(guesses: GradientGuesses, step: int, seed: int) -> _Played:
    truth, others = _step(guesses, step)
    present = guesses.present[step]
    shown = guesses.records[step][present].reshape(int(present.sum()), -1)
    if not len(shown):
        return _Played(_NOTHING, _NOTHING)
    rng, swaps = stream(seed, "gradient control", step), []
    for _ in range(DRAWS):
        drawn = stand_ins(truth.labels, others.labels, rng)
        if drawn is None:
            break
        rest = np.setdiff1d(np.arange(len(others.labels)), drawn)
        instead = Side(others.records[drawn], others.labels[drawn])
        left = Side(
            np.concatenate([others.records[rest], truth.records]), np.concatenate([others.labels[rest], truth.labels])
        )
        swaps.append(scored(shown, instead, left))
    control = Hits(*np.mean(swaps, axis=0).tolist()) if swaps else _NOTHING
    return _Played(scored(shown, truth, others), control)


def stand_ins(wanted: Ints, labels: Ints, rng: np.random.Generator) -> Ints | None:
    """Positions of distinct records, one of each wanted class [b], among `labels` [c]; None where there are too few."""
    order, found = rng.permutation(len(labels)), np.empty(len(wanted), np.int64)
    for label in np.unique(wanted):
        own, places = order[labels[order] == label], np.flatnonzero(wanted == label)
        if len(own) < len(places):
            return None
        found[places] = own[: len(places)]
    return found


class _Step(NamedTuple):
    """Batch and other records of a step. Where classes of the others are not known, all count as of one class."""

    truth: Side
    others: Side


def _step(guesses: GradientGuesses, step: int) -> _Step:
    present = guesses.present[step]
    truth = guesses.truth[step][present].reshape(int(present.sum()), -1)
    others = guesses.others[step].reshape(len(guesses.others[step]), -1)
    there = ~np.isnan(others).any(axis=1)
    if guesses.other_labels is None:
        alike = np.zeros(len(truth) + int(there.sum()), np.int64)
        return _Step(Side(truth, alike[: len(truth)]), Side(others[there], alike[len(truth) :]))
    labels = guesses.true_labels[step][present]
    return _Step(Side(truth, labels), Side(others[there], guesses.other_labels[step][there]))


def _error(answers: Answers, own: Floats, other: Floats) -> Measure:
    return Measure(
        name="mse",
        level="record",
        more="lower",
        attacked=answers.mean("mse", own[None], low=0.0),
        control=answers.mean("mse_control", other[None], low=0.0),
        difference=answers.difference("mse_difference", other[None], own[None], "numbers"),
        control_is=_CONTROL,
    )


def _decibels(answers: Answers, own: Floats, other: Floats, picture: bool) -> Measure:
    if not picture:
        return unmeasured("psnr", "record", "higher", answers, "Decibels are for pictures, whose pixels have a range.")
    return Measure(
        name="psnr",
        level="record",
        more="higher",
        attacked=answers.mean("psnr", own[None]),
        control=answers.mean("psnr_control", other[None]),
        difference=answers.difference("psnr_difference", own[None], other[None], "numbers"),
        control_is=_CONTROL,
    )


def _identified(answers: Answers, own: Floats, other: Floats) -> Measure:
    """`own` and `other` [steps, 2]: share identified, and prior."""
    shares, controls = own[None, :, 0], other[None, :, 0]
    if not np.isfinite(shares).any():
        return unmeasured("identified", "record", "higher", answers, "No batch holds a record.")
    prior = float(average(own[:, 1]))
    return Measure(
        name="identified",
        level="record",
        more="higher",
        attacked=answers.share("identified", shares, at=prior),
        control=answers.share("identified_control", controls, at=prior)
        if np.isfinite(controls).any()
        else answers.nothing("identified_control", _FEW),
        difference=answers.difference("identified_difference", shares, controls, "shares"),
        control_is=_CONTROL,
    )


def labels_recovered(guesses: GradientGuesses, answers: Answers) -> Measure:
    """Share of the classes of a batch, counted as often as they occur, that were recovered from its update.

    Control: the classes recovered from one step beside the batches of the other steps.
    """
    name = "labels_recovered"
    if guesses.labels is None:
        return unmeasured(name, "record", "higher", answers, "The classes were known from the start.")
    truth = [_known(row) for row in guesses.true_labels]
    found = [_known(row) for row in guesses.labels]
    table = np.array([[overlap(mine, theirs) for theirs in truth] for mine in found])
    own = np.diag(table)
    attacked = answers.share(name, own[None])
    if len(truth) == 1:
        return Measure(
            name=name,
            level="record",
            more="higher",
            attacked=attacked,
            control_is="One step; no other to compare with.",
        )
    other = average(np.where(np.eye(len(truth), dtype=bool), np.nan, table))
    return Measure(
        name=name,
        level="record",
        more="higher",
        attacked=attacked,
        control=answers.share(f"{name}_control", other[None]),
        difference=answers.difference(f"{name}_difference", own[None], other[None], "shares"),
        control_is="The classes recovered from one step beside the batches of the other steps.",
    )


def overlap(found: Iterable[int], truth: Iterable[int]) -> float:
    """Share of `truth` that is in `found`, each class as often as it occurs; NaN for an empty batch."""
    wanted = Counter(truth)
    total = sum(wanted.values())
    return sum((wanted & Counter(found)).values()) / total if total else float("nan")


def _known(labels: Ints) -> list[int]:
    return [int(label) for label in labels if label >= 0]
