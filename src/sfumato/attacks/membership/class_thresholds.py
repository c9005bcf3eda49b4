"""One threshold per class, chosen on reference models whose training sets are known."""

from __future__ import annotations

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs
from sfumato.attacks.membership.signals import over_population
from sfumato.targets.queries import QuerySet
from sfumato.types import Bools, Floats, Ints

SONG_MITTAL = """@inproceedings{song2021systematic,
  title = {Systematic Evaluation of Privacy Risks of Machine Learning Models},
  author = {Song, Liwei and Mittal, Prateek},
  booktitle = {USENIX Security Symposium},
  pages = {2615--2632},
  year = {2021}
}"""


def best_threshold(scores: Floats, members: Bools) -> float:
    """The threshold of highest balanced accuracy, midway between neighbouring scores; the lowest one among equals.

    Args:
        scores: [k], higher = member.
        members: bool [k], both kinds present.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, is_member = scores[order], members[order]
    tpr = np.cumsum(is_member) / is_member.sum()
    fpr = np.cumsum(~is_member) / (~is_member).sum()
    last_of_tie = np.append(ordered[1:] != ordered[:-1], True)
    accuracy = np.where(last_of_tie, tpr - fpr, -np.inf)
    best = len(accuracy) - 1 - int(np.argmax(accuracy[::-1]))
    below = ordered[min(best + 1, len(ordered) - 1)]
    return float((ordered[best] + below) / 2)


def class_thresholds(scores: Floats, labels: Ints, membership: Bools) -> Floats:
    """tau_c for each class c (section 4.2 of arXiv 2003.10595); a class without both kinds gets the overall one.

    Args:
        scores: [r, n] of the references.
        labels: int [n].
        membership: bool [r, n].

    Returns:
        float64 [largest label + 1].
    """
    overall = best_threshold(scores.ravel(), membership.ravel())
    thresholds = np.full(int(labels.max()) + 1, overall)
    for label in np.unique(labels):
        of_class, members = scores[:, labels == label].ravel(), membership[:, labels == label].ravel()
        if members.any() and not members.all():
            thresholds[label] = best_threshold(of_class, members)
    return thresholds


def threshold_needs(queries: QuerySet, by_class: bool) -> Needs:
    """References with known members where thresholds are to be learnt, else nothing but the queries."""
    return Needs(references="in-out", minimum_references=1, queries=queries) if by_class else Needs(queries=queries)


def relative_to_class(evidence: Evidence, target: Floats, references: Floats) -> Floats:
    """s - tau_y: scores [n] of the target less the threshold of each record's class, learnt on references [r, n]."""
    game = evidence.game
    labels = evidence.labels[game]
    thresholds = class_thresholds(references[:, game], labels, evidence.reference_membership[:, game])
    return over_population(target[game] - thresholds[labels], game)
