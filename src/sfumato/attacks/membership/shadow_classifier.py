"""Shadow-model classifier: learn on models of known membership what the answer to a member looks like."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.fits import Fit
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.posteriors import only_base_query, refuse_other_queries
from sfumato.attacks.membership.signals import over_population
from sfumato.errors import NotApplicable, UsageError
from sfumato.seeding import derive, stream
from sfumato.types import Bools, Floats, Ints
from sfumato.validate import at_least, one_of

_BIBTEX = """@inproceedings{shokri2017membership,
  title = {Membership Inference Attacks Against Machine Learning Models},
  author = {Shokri, Reza and Stronati, Marco and Song, Congzheng and Shmatikov, Vitaly},
  booktitle = {IEEE Symposium on Security and Privacy},
  pages = {3--18},
  year = {2017}
}
@inproceedings{salem2019mlleaks,
  title = {{ML-Leaks}: Model and Data Independent Membership Inference Attacks and Defenses on Machine Learning Models},
  author = {Salem, Ahmed and Zhang, Yang and Humbert, Mathias and Berrang, Pascal and Fritz, Mario and Backes, Michael},
  booktitle = {Network and Distributed System Security Symposium},
  year = {2019}
}"""


def posterior_features(logits: Floats, labels: Ints, kind: str) -> Floats:
    """What the classifier sees of an answer.

    Args:
        logits: [..., n, classes].
        labels: int [n].
        kind: "posterior": full posterior and one-hot label (arXiv 1610.05820, section V-D; one network conditioned on
            the label stands in for one network per class); "top3": the three largest probabilities, sorted
            (arXiv 1806.01246, section III-A; all of them where there are fewer classes).

    Returns:
        float64 [..., n, features].
    """
    p = softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    if kind == "top3":
        return -np.sort(-p, axis=-1)[..., :3]
    one_hot = np.eye(p.shape[-1])[labels]
    return np.concatenate([p, np.broadcast_to(one_hot, p.shape)], axis=-1)


def balanced_rows(members: Bools, most: int, rng: np.random.Generator) -> Ints:
    """Positions in `members` [k], as many members as non-members, at most `most` in all, drawn without replacement."""
    each = min(int(members.sum()), int((~members).sum()), most // 2)
    chosen = [rng.choice(np.flatnonzero(kind), each, replace=False) for kind in (members, ~members)]
    return np.concatenate(chosen)


def network_scores(features: Floats, weights: dict[str, Floats]) -> Floats:
    """Log-odds of membership from a network of one hidden ReLU layer: [..., features] to [...]."""
    hidden = np.maximum(features @ weights["hidden"] + weights["hidden_bias"], 0.0)
    return (hidden @ weights["output"] + weights["output_bias"])[..., 0]


@dataclass(frozen=True, eq=False)
class ClassifierFit(Fit):
    """An attack network trained on answers of known membership; binary cross-entropy, Adam, early stopping.

    Args:
        features: [k, features].
        members: bool [k], balanced.
        hidden: units of the hidden layer.
        epochs: most passes over the answers.
        seed: of initial weights, order and validation share.
    """

    features: Floats
    members: Bools
    hidden: int
    epochs: int
    seed: int

    def run(self) -> dict[str, Floats]:
        network = MLPClassifier(
            hidden_layer_sizes=(self.hidden,),
            max_iter=self.epochs,
            early_stopping=True,
            random_state=np.random.RandomState(self.seed % 2**32),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is a budget, not a promise
            network.fit(self.features, self.members)
        (hidden, output), (hidden_bias, output_bias) = network.coefs_, network.intercepts_
        return {"hidden": hidden, "hidden_bias": hidden_bias, "output": output, "output_bias": output_bias}


@dataclass(frozen=True, kw_only=True)
class ShadowClassifier(MembershipAttack):
    """A small network that tells members' answers from non-members'.

    Args:
        features: "posterior" (Shokri et al.) or "top3" (Salem et al.).
        hidden: units of its hidden layer.
        answers: most answers of references that it is trained on, half of them of members.
        epochs: most passes over them.
    """

    name: ClassVar[str] = "shadow-classifier"
    reference: ClassVar[str] = "shokri2017membership"
    bibtex: ClassVar[str] = _BIBTEX
    summary: ClassVar[str] = "A network trained on shadow models' answers to tell members from non-members."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models whose training sets are known."
    )

    features: str = "posterior"
    hidden: int = 64
    answers: int = 20_000
    epochs: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("features", self.features, ("posterior", "top3"))
        at_least("hidden", self.hidden, 1)
        at_least("answers", self.answers, 20)
        at_least("epochs", self.epochs, 1)

    def needs(self) -> Needs:
        return Needs(references="in-out", minimum_references=1, queries=self.query_set, fits_per_target=1)

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        reasons = super().applies_to(evidence) + only_base_query(self.query_set)
        if not reasons and evidence.reference_membership[:, evidence.game].size < 20:
            reasons += ("needs at least 20 answers of references to train its classifier",)
        return reasons

    def fits(self, evidence: Evidence) -> tuple[Fit, ...]:
        for reason in self.applies_to(evidence):
            raise NotApplicable(f"The attack shadow-classifier {reason}.")
        members = evidence.reference_membership[:, evidence.game]
        chosen = balanced_rows(members.ravel(), self.answers, stream(evidence.seed, self.name, "answers"))
        reference, record = np.unravel_index(chosen, members.shape)
        record = np.flatnonzero(evidence.game)[record]
        picked = evidence.answers_of_references.logits[reference, record]
        features = posterior_features(picked, evidence.labels[record], self.features)
        known = members.ravel()[chosen]
        return (ClassifierFit(features, known, self.hidden, self.epochs, derive(evidence.seed, self.name)),)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        refuse_other_queries(self.query_set)
        if len(fitted) != 1:
            raise UsageError(
                f"Expected the result of the one fit of shadow-classifier, got {len(fitted)}.",
                remedy="Run `fits(evidence)` and pass their results.",
            )
        game = evidence.game
        features = posterior_features(evidence.target.logits[0, game], evidence.labels[game], self.features)
        return over_population(network_scores(features, fitted[0]), game)
