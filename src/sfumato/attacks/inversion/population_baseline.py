"""What public records alone tell of a hidden attribute: the honest baseline of attribute inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.evidence import AttributeEvidence
from sfumato.canonical import array_digest
from sfumato.seeding import derive
from sfumato.types import Floats, Ints, Rows

FOLDS = 3
FEWEST = 30  # public records below which only shares by class are told
MOST = 5000  # public records that are learned from
TESTED = 600  # public records that an attacker tests rules on
SEED = 0  # of the folds: the same for every attack and target

Rule = Callable[[Floats, Ints, Floats, int], Floats]


def known_features(records: Floats, labels: Ints, column: int, classes: int) -> Floats:
    """float64 [n, features - 1 + classes]: all attributes but the hidden one, and the class as zeros and a one."""
    rest = np.delete(np.asarray(records, dtype=np.float64), column, axis=1)
    return np.concatenate([rest, np.eye(classes)[labels]], axis=1)


def smoothed(probabilities: Floats, records: int) -> Floats:
    """Probabilities [q, v] as if one more record of each value had been seen besides `records`, so that none is 0."""
    return (records * probabilities + 1) / (records + probabilities.shape[1])


def shares_by_class(seen: Floats, values: Ints, asked: Floats, count: int, classes: int) -> Floats:
    """float64 [q, v]: how frequent each value is among seen records of the same class, each counted once more.

    Args:
        seen: float64 [n, d], whose last `classes` columns name the class.
        values: int64 [n].
        asked: float64 [q, d].
        count: v.
        classes: how many there are.
    """
    counts = seen[:, -classes:].T @ np.eye(count)[values] + 1
    return asked[:, -classes:] @ (counts / counts.sum(axis=1, keepdims=True))


def _classified(model: Any, seen: Floats, values: Ints, asked: Floats, count: int) -> Floats:
    """float64 [q, v] of a classifier; values that it never saw have 0. With one value only there is nothing to fit."""
    found = np.zeros((len(asked), count))
    kinds = np.unique(values)
    if len(kinds) == 1:
        found[:, kinds[0]] = 1.0
    else:
        found[:, kinds] = model.fit(seen, values).predict_proba(asked)
    return smoothed(found, len(seen))


def rules(classes: int) -> dict[str, Rule]:
    """The ways to tell the value from public records, from the plainest to the richest."""

    def shares(seen: Floats, values: Ints, asked: Floats, count: int) -> Floats:
        return shares_by_class(seen, values, asked, count, classes)

    def logistic(seen: Floats, values: Ints, asked: Floats, count: int) -> Floats:
        return _classified(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), seen, values, asked, count
        )

    def trees(seen: Floats, values: Ints, asked: Floats, count: int) -> Floats:
        options: dict[str, Any] = {
            "max_iter": 40,
            "max_leaf_nodes": 15,
            "min_samples_leaf": 10,
            "early_stopping": False,
        }
        model = HistGradientBoostingClassifier(random_state=0, **options)
        return _classified(model, seen, values, asked, count)

    return {"shares": shares, "logistic": logistic, "trees": trees}


def chosen_rule(seen: Floats, values: Ints, count: int, classes: int) -> str:
    """The rule with the least cross-validated log-loss on public records; the plainest where they are too few.

    Args:
        seen: float64 [n, d], `known_features` of public records.
        values: int64 [n], which value each has.
        count: of values.
        classes: as for `known_features`.
    """
    if len(seen) < FEWEST:
        return "shares"
    folds = list(KFold(FOLDS, shuffle=True, random_state=derive(SEED, "folds") % 2**32).split(seen))
    losses = {}
    for name, rule in rules(classes).items():
        told = [rule(seen[fit], values[fit], seen[left], count) for fit, left in folds]
        own = [p[np.arange(len(left)), values[left]] for p, (_, left) in zip(told, folds, strict=True)]
        losses[name] = -np.log(np.concatenate(own)).mean()
    return min(losses, key=lambda name: losses[name])


@dataclass(frozen=True, eq=False, kw_only=True)
class PopulationFit(Fit):
    """The baseline as a job, from public records alone: "probabilities" float64 [q, v] of the values.

    Beside them what an attacker can test a rule on: some public records by position, "rows" float64 [p], and what the
    baseline says of each when it learned from the others only, "held_out" float64 [p, v].

    Args:
        evidence: its oracle is not touched, so that all targets that are asked about the same records share it.
    """

    evidence: AttributeEvidence

    def spec(self) -> dict[str, Any]:
        """What determines the result; the records count by their digests."""
        e = self.evidence
        arrays = {"records": e.records, "labels": e.labels, "values": e.values, "public values": e.public_values}
        digests = {name: array_digest(np.asarray(array)) for name, array in arrays.items()}
        return {"public": e.public.fingerprint, "column": e.column, "classes": e.oracle.classes, **digests}

    def run(self) -> dict[str, Floats]:
        held_out = held_out_probabilities(self.evidence)
        return {
            "probabilities": baseline_probabilities(self.evidence),
            "rows": held_out.rows.astype(np.float64),
            "held_out": held_out.probabilities,
        }


class HeldOut(NamedTuple):
    """Positions of some public records int64 [p], and their probabilities [p, v] by a rule that left them out."""

    rows: Rows
    probabilities: Floats


@dataclass(frozen=True, eq=False)
class _Seen:
    """Public records that are learned from: their positions, features and values."""

    rows: Rows
    features: Floats
    values: Ints


def _seen(evidence: AttributeEvidence) -> _Seen:
    public = evidence.public
    rows = np.arange(min(len(public), MOST))
    if len(public) > MOST:
        rows = np.linspace(0, len(public) - 1, MOST).astype(np.int64)
    x, labels = public.tensor(rows).numpy(), public.label_array[rows]
    features = known_features(x, labels, evidence.column, evidence.oracle.classes)
    return _Seen(rows, features, np.asarray(evidence.public_values)[rows])


def held_out_probabilities(evidence: AttributeEvidence) -> HeldOut:
    """Of at most `TESTED` public records, by folds; shares by class where there are too few to choose a rule."""
    seen, count, classes = _seen(evidence), len(evidence.values), evidence.oracle.classes
    rule = rules(classes)[chosen_rule(seen.features, seen.values, count, classes)]
    told = np.zeros((len(seen.rows), count))
    folds = KFold(min(FOLDS, len(seen.rows)), shuffle=True, random_state=derive(SEED, "held out") % 2**32)
    for fit, left in folds.split(seen.features):
        told[left] = rule(seen.features[fit], seen.values[fit], seen.features[left], count)
    told = told / told.sum(axis=1, keepdims=True)
    kept = np.linspace(0, len(seen.rows) - 1, min(TESTED, len(seen.rows))).astype(np.int64)
    return HeldOut(seen.rows[kept], told[kept])


def baseline_probabilities(evidence: AttributeEvidence) -> Floats:
    """float64 [q, v]: how probable each value is, given the class and the other attributes, by public records alone.

    Shares by class, logistic regression or boosted trees, whichever tells held-out public records best.
    """
    seen, classes = _seen(evidence), evidence.oracle.classes
    asked = known_features(evidence.records, evidence.labels, evidence.column, classes)
    count = len(evidence.values)
    rule = rules(classes)[chosen_rule(seen.features, seen.values, count, classes)]
    told = rule(seen.features, seen.values, asked, count)
    return told / told.sum(axis=1, keepdims=True)


def baseline_guesses(evidence: AttributeEvidence) -> Ints:
    """int64 [q]: the likeliest value of each record by public records alone, the first of equal ones."""
    return baseline_probabilities(evidence).argmax(axis=1).astype(np.int64)
