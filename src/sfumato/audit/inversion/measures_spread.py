"""How real and how varied guesses of classes are. None of it says that something leaked: a level of its own."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import stdtrit

from sfumato.audit.inversion.estimates import grid
from sfumato.audit.inversion.seen import Seen
from sfumato.audit.inverted import Measure
from sfumato.audit.measured import Finding
from sfumato.audit.statistics.frechet import between, gaussian
from sfumato.audit.statistics.nearest import neighbour_radii
from sfumato.audit.statistics.prdc import NEIGHBOURS, prdc
from sfumato.seeding import stream
from sfumato.types import Bools, Floats

GROUPS = 12  # of classes, left out one after the other
_FEW = "The distance of few samples is too large whatever they show: read it beside the control."
_AS_MANY = "As many private records of the same classes, drawn at random, against the rest of them."


def spread_measures(seen: Seen) -> list[Measure]:
    """FID over all classes, and precision, recall, density and coverage within each class."""
    return [fid(seen), *prdc_measures(seen)]


def fid(seen: Seen) -> Measure:
    """Frechet distance in the evaluator's features between all guesses of a target and the records of their classes.

    All guesses count, not the successful ones alone. The mean over targets; no shrinkage. Control: the same for as many
    real records as there are guesses, so that it has the same excess from few samples.
    """
    labels = seen.guesses.labels
    whole = _mean_fid(seen, np.ones(labels.shape, bool))
    if not np.isfinite(whole):
        empty = seen.answers.nothing("fid", "Needs two guesses, and two records of their classes.")
        return Measure(name="fid", level="none", more="lower", attacked=empty)
    attacked = Finding(name="fid", value=whole, low=None, high=None, confidence=seen.settings.confidence, note=_FEW)
    asked = np.unique(labels)
    if len(asked) > 2:
        groups = np.array_split(stream(seen.settings.seed, "fid", "groups").permutation(asked), min(GROUPS, len(asked)))
        rest = np.array([_mean_fid(seen, ~np.isin(labels, group)) for group in groups])
        attacked = _jackknifed(attacked, whole, rest)
    return Measure(
        name="fid", level="none", more="lower", attacked=attacked, control=_real_fid(seen), control_is=_AS_MANY
    )


def _mean_fid(seen: Seen, kept: Bools) -> float:
    """Mean over targets, with the guesses of the questions kept [targets, q]; NaN where there are too few."""
    known = cache(lambda classes: gaussian(seen.judge.record_features[_rows(seen, classes)]))
    values = []
    for features, labels, chosen in zip(seen.features, seen.guesses.labels, kept, strict=True):
        guesses = features[chosen].reshape(-1, features.shape[-1])
        classes = tuple(sorted(int(label) for label in labels[chosen]))
        if len(guesses) > 1 and len(_rows(seen, classes)) > 1:
            values.append(between(gaussian(guesses), known(classes)))
    return float(np.mean(values)) if values else float("nan")


def _real_fid(seen: Seen) -> Finding | None:
    """The distance of as many real records, of the classes of the first target; None where there are too few."""
    labels, images = seen.guesses.labels[0], seen.guesses.images
    rng, drawn, rest = stream(seen.settings.seed, "fid", "real"), [], []
    for label in labels:
        rows = rng.permutation(seen.rows_of(int(label)))
        drawn, rest = [*drawn, *rows[:images]], [*rest, *rows[images:]]
    if len(drawn) < 2 or len(rest) < 2 or len(drawn) < images * len(labels):
        return None
    features = seen.judge.record_features
    value = between(gaussian(features[drawn]), gaussian(features[rest]))
    return Finding(name="fid_control", value=value, low=None, high=None, method="one draw, no interval")


def _rows(seen: Seen, classes: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([seen.rows_of(label) for label in classes]) if classes else np.empty(0, np.int64)


def _jackknifed(finding: Finding, whole: float, rest: Floats) -> Finding:
    """With a t interval over groups of classes, left out one after the other; `rest` [groups]."""
    if not np.isfinite(rest).all():
        return finding
    groups = len(rest)
    variance = (groups - 1) / groups * float(((rest - rest.mean()) ** 2).sum())
    reach = -float(stdtrit(groups - 1, (1 - finding.confidence) / 2)) * float(np.sqrt(variance))
    ends = {"low": max(whole - reach, 0.0), "high": whole + reach}
    return finding.model_copy(update={**ends, "method": f"t interval; jackknife over {groups} groups of classes"})


def prdc_measures(seen: Seen) -> list[Measure]:
    """Precision, recall, density and coverage of the guesses of each class among its records, k = 3, mean over classes.

    In the evaluator's features. Classes of 3 records or fewer are left out; recall needs more than 3 guesses of each.
    """
    radii = {
        int(label): neighbour_radii(seen.judge.record_features[rows], NEIGHBOURS)
        for label in np.unique(seen.guesses.labels)
        if len(rows := seen.rows_of(int(label))) > NEIGHBOURS
    }

    def of(target: int, question: int) -> Floats:
        label = int(seen.guesses.labels[target, question])
        if label not in radii:
            return np.full(4, np.nan)
        real = seen.judge.record_features[seen.rows_of(label)]
        return np.array(prdc(real, seen.features[target, question], radii=radii[label]))

    values = grid(seen.guesses.targets, seen.guesses.questions, of, width=4)
    return [
        _described(seen, name, values[..., i]) for i, name in enumerate(("precision", "recall", "density", "coverage"))
    ]


def _described(seen: Seen, name: str, values: Floats) -> Measure:
    answers = seen.answers
    if not np.isfinite(values).any():
        few = f"Needs more than {NEIGHBOURS} records of a class"
        found = answers.nothing(name, f"{few}, and as many guesses." if name == "recall" else f"{few}.")
    else:
        found = answers.mean(name, values, low=0.0) if name == "density" else answers.share(name, values)
    return Measure(name=name, level="none", more="higher", attacked=found)
