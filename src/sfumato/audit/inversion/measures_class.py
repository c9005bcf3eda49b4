"""Measures of the class game: what guesses of a class say of the class, and what of single training records."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sfumato.audit.inversion.estimates import average, certain, grid, shifted, unmeasured
from sfumato.audit.inversion.guesses import ClassGuesses
from sfumato.audit.inversion.judge import Judge
from sfumato.audit.inversion.measures_knowledge import knowledge_accuracy
from sfumato.audit.inversion.measures_spread import spread_measures
from sfumato.audit.inversion.seen import Seen
from sfumato.audit.inverted import Measure
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics.nearest import nearest_of_some, share_nearer, squared_distances
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.types import Bools, Floats, Rows

OTHERS = 10  # classes that a guess is compared with, at most
DISPUTES = 200  # held-out records on which the second opinion itself is tried, at most
_UNSEEN = "No class has both records that the target was trained on and others: units and classes coincide."
_ALONE = "One class was asked about, so there is no other to compare with."


def class_measures(
    guesses: ClassGuesses, population: Population, judge: Judge, settings: AuditSettings
) -> list[Measure]:
    """Every measure of guesses of classes.

    Args:
        guesses: over all targets.
        population: the private records, those of the judge.
        judge: see `judge_for`.
        settings: for level, seed, and whether `knowledge_accuracy` is wanted.
    """
    if population.fingerprint != judge.population.fingerprint:
        raise UsageError("Expected the judge's own population, got another one.", remedy="Make a judge for it.")
    seen = Seen(guesses, judge, settings)
    found = [
        looks_accuracy(seen),
        evaluator_accuracy(seen, 1),
        evaluator_accuracy(seen, 5),
        disputed_successes(seen),
        class_distance(seen),
        record_distance(seen),
        nearer_to_training(seen),
        *spread_measures(seen),
    ]
    wanted = settings.inversion is not None and settings.inversion.knowledge
    return [*found, knowledge_accuracy(seen)] if wanted else found


def evaluator_accuracy(seen: Seen, best: int) -> Measure:
    """Share of guesses of which the evaluator has the class among its `best` largest logits.

    Control: how often the same guess is taken, by the same rule, for another class that was asked about. Guesses that
    have nothing to do with the question do as well there, even where the evaluator prefers some classes.
    """
    name, classes = f"evaluator_accuracy_{best}", seen.judge.population.classes
    if classes <= best:
        note = f"There are {classes} classes, so that the {best} best are all of them."
        return unmeasured(name, "class", "higher", seen.answers, note)
    return _taken(seen, name, among_best(seen.logits, best), at=best / classes)


def looks_accuracy(seen: Seen) -> Measure:
    """Share of guesses that look most like a record of the class, beside equally many private records of each class.

    No network judges here: what pleases an evaluator without any likeness does not count, and a likeness that an
    evaluator has never learned to see does. Control: how often the same guess looks most like another class that was
    asked about.
    """
    found = seen.nearest_of_equal[..., None] == np.arange(seen.judge.population.classes)
    return _taken(seen, "looks_accuracy", found, at=1 / seen.judge.population.classes)


def _taken(seen: Seen, name: str, taken: Bools, at: float) -> Measure:
    """How often guesses are taken for their class, and for others asked about; `taken` bool [T, q, k, classes]."""
    called = taken.mean(axis=2)
    targets, questions = seen.guesses.labels.shape
    own = np.take_along_axis(called, seen.guesses.labels[..., None], axis=2)[..., 0]
    attacked = seen.answers.share(name, own, at=at)
    if questions == 1:
        return Measure(name=name, level="class", more="higher", attacked=attacked, control_is=_ALONE)
    other = grid(targets, questions, lambda t, i: called[t, i, seen.others(t, i)].mean())[..., 0]
    return Measure(
        name=name,
        level="class",
        more="higher",
        attacked=attacked,
        control=seen.answers.share(f"{name}_control", other, at=at),
        difference=seen.answers.difference(f"{name}_difference", own, other, "shares"),
        control_is="How often the same guess is taken for another class that was asked about.",
    )


def among_best(logits: Floats, best: int) -> Bools:
    """bool [..., classes]: the `best` largest of logits [..., classes]; of equal ones the first."""
    order = np.argsort(-logits, axis=-1, kind="stable")[..., :best]
    found = np.zeros(logits.shape, dtype=bool)
    np.put_along_axis(found, order, True, axis=-1)
    return found


def disputed_successes(seen: Seen) -> Measure:
    """Of the guesses that the evaluator takes for the class, the share that looks most like a record of another class.

    The false-positive control of `evaluator_accuracy_1`. Its own control is the error of the second opinion: held-out
    private records that the evaluator gets right, each beside all other private records.
    """
    name, labels = "disputed_successes", seen.guesses.labels[..., None]
    success = seen.logits.argmax(axis=-1) == labels
    disputed = success & (seen.nearest_class != labels)
    what = f"The same for private records that the evaluator never saw; looks are {seen.judge.looks.described}."
    if not success.any():
        return unmeasured(name, "none", "lower", seen.answers, "The evaluator takes no guess for its class.")
    attacked = seen.answers.ratio(name, disputed.sum(axis=2) * 1.0, success.sum(axis=2) * 1.0)
    own = own_disputes(seen)
    control = certain(f"{name}_control", own, f"at most {DISPUTES} held-out records, no interval") if own >= 0 else None
    return Measure(name=name, level="none", more="lower", attacked=attacked, control=control, control_is=what)


def own_disputes(seen: Seen) -> float:
    """The share of `disputed_successes` for held-out private records; -1 where the evaluator gets none right."""
    judge, rng = seen.judge, stream(seen.settings.seed, "disputes")
    rows = np.flatnonzero(judge.held_out & seen.counted)
    rows = rng.permutation(rows)[:DISPUTES]
    labels, records = judge.population.label_array, judge.population.tensor(rows).numpy()
    right = rows[judge.logits(records).argmax(axis=1) == labels[rows]]
    if not len(right):
        return -1.0
    distances = squared_distances(judge.record_looks[right], judge.record_looks)
    distances[np.arange(len(right)), right] = np.inf
    distances[:, ~seen.counted] = np.inf
    return float((labels[distances.argmin(axis=1)] != labels[right]).mean())


def class_distance(seen: Seen) -> Measure:
    """Squared distance, in the evaluator's features, from a guess to the nearest record of its class.

    Control: from the same guess to the nearest record of another class that was asked about. Both sides have equally
    many records, as many as the smaller class; where classes are equally large, that is all of them, and the measure is
    the usual one. Averaged over choices of records (exactly) and over up to 10 other classes.
    """
    name = "class_distance"
    targets, questions = seen.guesses.labels.shape
    if questions == 1:
        return unmeasured(name, "class", "lower", seen.answers, _ALONE)
    rng = stream(seen.settings.seed, "class distance")
    chosen = [[rng.permutation(seen.others(t, i))[:OTHERS] for i in range(questions)] for t in range(targets)]
    both = grid(targets, questions, lambda t, i: _class_distances(seen, t, i, chosen[t][i]), width=2)
    attacked, control = both[..., 0], both[..., 1]
    return Measure(
        name=name,
        level="class",
        more="lower",
        attacked=seen.answers.mean(name, attacked, low=0.0),
        control=seen.answers.mean(f"{name}_control", control, low=0.0),
        difference=seen.answers.difference(f"{name}_difference", control, attacked, "numbers"),
        control_is="From the same guess to as many records of another class that was asked about.",
    )


def _class_distances(seen: Seen, target: int, question: int, others: np.ndarray) -> Floats:
    """[2]: mean over guesses and over other classes of the distance to the own class, and to the other one."""
    everywhere = squared_distances(seen.features[target, question], seen.judge.record_features)
    own = everywhere[:, seen.rows_of(int(seen.guesses.labels[target, question]))]
    pairs = []
    for other in others:
        away = everywhere[:, seen.rows_of(int(other))]
        count = min(own.shape[1], away.shape[1])
        if count:
            pairs.append([nearest_of_some(own, count).mean(), nearest_of_some(away, count).mean()])
    return np.mean(pairs, axis=0) if pairs else np.full(2, np.nan)


def record_distance(seen: Seen) -> Measure:
    """Squared distance, in looks, from a guess to the nearest record of its class that the target was trained on.

    Control: from the same guess to the nearest record of the class that this target never saw, equally many on both
    sides (averaged over choices, exactly). In looks, not in the evaluator's features, in which records of a class
    come to lie together. Classes that have no record on one side are left out.
    """
    name = "record_distance"
    both = _by_training(seen, _equally_many)
    if not np.isfinite(both).any():
        return unmeasured(name, "record", "lower", seen.draws, _UNSEEN)
    attacked, control = both[..., 0], both[..., 1]
    return Measure(
        name=name,
        level="record",
        more="lower",
        attacked=seen.draws.mean(name, attacked, low=0.0),
        control=seen.draws.mean(f"{name}_control", control, low=0.0),
        difference=seen.draws.difference(f"{name}_difference", control, attacked, "numbers"),
        control_is=f"As many records of the class that the model never saw; looks are {seen.judge.looks.described}.",
    )


def nearer_to_training(seen: Seen) -> Measure:
    """Share of guesses whose nearest record of the class is one that the target was trained on, at equal counts.

    Which records were trained on was a fair draw. So a guess that shows the class alone is nearer to either side
    equally often, however near it comes: the control is 1/2 by the rules of the game. Distances are those in looks.
    """
    name = "nearer_to_training"
    both = _by_training(seen, lambda own, other: np.full(2, share_nearer(own, other).mean()))
    if not np.isfinite(both).any():
        return unmeasured(name, "record", "higher", seen.draws, _UNSEEN)
    attacked = seen.draws.share(name, both[..., 0], at=0.5)
    return Measure(
        name=name,
        level="record",
        more="higher",
        attacked=attacked,
        control=certain(f"{name}_control", 0.5, "by the fair draw of the training records"),
        difference=shifted(attacked, 0.5, f"{name}_difference"),
        control_is="A guess that shows the class alone is nearer to either side equally often.",
    )


def _equally_many(own: Floats, other: Floats) -> Floats:
    """[2]: mean over guesses of the distance to the nearest of either, distances [k, n] and [k, m], equally many."""
    count = min(own.shape[1], other.shape[1])
    return average(np.stack([nearest_of_some(own, count), nearest_of_some(other, count)]))


def _by_training(seen: Seen, compare: Callable[[Floats, Floats], Floats]) -> Floats:
    """float64 [T, q, 2]: `compare(own, other)`, squared distances in looks to records in and out; NaN without both."""

    def of(target: int, question: int) -> Floats:
        sides = _sides(seen, target, question)
        if not len(sides.inside) or not len(sides.outside):
            return np.full(2, np.nan)
        looks, records = seen.looks[target, question], seen.judge.record_looks
        return compare(*(squared_distances(looks, records[rows]) for rows in sides))

    return grid(seen.guesses.targets, seen.guesses.questions, of, width=2)


class _Sides(NamedTuple):
    """Records of a class that the target was trained on, and those that it never saw."""

    inside: Rows
    outside: Rows


def _sides(seen: Seen, target: int, question: int) -> _Sides:
    rows = seen.rows_of(int(seen.guesses.labels[target, question]))
    inside = seen.guesses.trained[target, rows]
    return _Sides(rows[inside], rows[~inside])
