"""RMIA: the target's probability of the label against its marginal, compared with that of other records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.marginals import choose_a, log_marginal_from_outside, log_mean, log_mean_of_worlds
from sfumato.attacks.membership.posteriors import only_base_query, refuse_other_queries
from sfumato.attacks.membership.signals import finite, over_population
from sfumato.types import Bools, Floats, Ints
from sfumato.validate import at_least, in_range, one_of

MARGIN = 0.6
TERMS = 4
TAYLOR_FLOOR = 1e-12


class Probabilities(NamedTuple):
    """log p_y of the target [n, variants] and of the references [r, n, variants], finite."""

    target: Floats
    references: Floats


def taylor_log_confidence(logits: Floats, labels: Ints, temperature: float) -> Floats:
    """log p_y under the soft-margin Taylor softmax (appendix A, arXiv 2312.03262): [..., n, classes] to [..., n].

    p_y = t(c_y - m) / (t(c_y - m) + sum over i != y of t(c_i)), c = logits / temperature, m = 0.6,
    t(v) = 1 + v + v^2/2 + v^3/6. The cubic turns negative below -1.6; it is floored at 1e-12.
    """
    c = np.asarray(logits, dtype=np.float64) / temperature
    is_own = np.arange(c.shape[-1]) == np.asarray(labels)[:, None]
    c = np.maximum(np.where(is_own, c - MARGIN, c), -10.0)  # t rises everywhere: below is floored all the same
    series, term = np.ones_like(c), np.ones_like(c)
    for k in range(1, TERMS):
        term = term * c / k
        series = series + term
    series = np.maximum(series, TAYLOR_FLOOR)
    return np.log(np.where(is_own, series, 0.0).sum(axis=-1)) - np.log(series.sum(axis=-1))


def log_ratio(probabilities: Probabilities, log_marginal: Floats) -> Floats:
    """log r = log p(x|theta) - log p(x), averaged over variants: [n]. Equation 4, arXiv 2312.03262."""
    return (probabilities.target - log_marginal).mean(axis=1)


def counting_scores(log_ratios: Floats, population: Floats, gamma: float) -> Floats:
    """Share of population records z with r_x / r_z >= gamma: [n], [z] to [n] in steps of 1/z. Equation 2.

    Many records tie, above all at 1, so small false-positive rates cannot be reached. Answers to several queries are
    averaged before they are compared; the research code takes a majority vote per pair instead.
    """
    return np.searchsorted(np.sort(population), log_ratios - np.log(gamma), side="right") / len(population)


def continuous_scores(log_ratios: Floats, population: Floats) -> Floats:
    """log r_x, less the mean of log r_z where there is a population, so that targets can be pooled: [n], [z] to [n].

    For one target this ranks like the counting form with its ties broken. The constant is that of InfoRMIA.
    """
    return log_ratios - population.mean() if len(population) else log_ratios


@dataclass(frozen=True, kw_only=True)
class RMIA(MembershipAttack):
    """Robust membership inference.

    Args:
        online: whether references trained with the record are used.
        form: "continuous" (default; known non-members only set a constant per target, and where there are none nothing
            is subtracted) or "counting" (the paper's; needs known non-members).
        gamma: factor by which a record must beat a population record in the counting form.
        a: slope of p_in = a p_out + 1 - a, offline and for known non-members, in [0, 1]; None chooses it on the
            references (`marginals.choose_a`).
        temperature: of the softmax, 1 or 2.
        softmax: "plain" or "taylor" (soft-margin Taylor softmax; base query only).
        trim: share of the references dropped at each end of the mean, in [0, 0.49]; 0.2 in the research code.
    """

    name: ClassVar[str] = "rmia"
    reference: ClassVar[str] = "zarifzadeh2024rmia"
    bibtex: ClassVar[str] = """@inproceedings{zarifzadeh2024rmia,
  title = {Low-Cost High-Power Membership Inference Attacks},
  author = {Zarifzadeh, Sajjad and Liu, Philippe and Shokri, Reza},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}"""
    summary: ClassVar[str] = "Probability of the label against its average over reference models, relative to others."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, shadow models, and for the counting form known non-members."
    )

    online: bool = True
    form: str = "continuous"
    gamma: float = 2.0
    a: float | None = None
    temperature: int = 2
    softmax: str = "plain"
    trim: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("form", self.form, ("continuous", "counting"))
        one_of("temperature", self.temperature, (1, 2))
        one_of("softmax", self.softmax, ("plain", "taylor"))
        in_range("trim", self.trim, 0.0, 0.49)
        at_least("gamma", self.gamma, 1.0)
        if self.a is not None:
            in_range("a", self.a, 0.0, 1.0)

    def needs(self) -> Needs:
        return Needs(
            references="in-out" if self.online else "out",
            minimum_references=1,
            public=self.form == "counting",
            uses_public=True,
            queries=self.query_set,
        )

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        return super().applies_to(evidence) + (only_base_query(self.query_set) if self.softmax == "taylor" else ())

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        everyone = self._probabilities(evidence)
        membership, game, public = evidence.reference_membership, evidence.game, evidence.public
        a = self._slope(everyone, membership, game, public)
        marginal = self._marginal(_at(everyone, game).references, membership[:, game], a)
        ratios = log_ratio(_at(everyone, game), marginal)
        population = np.empty(0)
        if public.any():
            known = _at(everyone, public)
            outside = log_mean(known.references, ~membership[:, public], self.trim)
            population = log_ratio(known, log_marginal_from_outside(outside, a))
        counting = self.form == "counting"
        scores = counting_scores(ratios, population, self.gamma) if counting else continuous_scores(ratios, population)
        return over_population(scores, game)

    def _probabilities(self, evidence: Evidence) -> Probabilities:
        answers = evidence.answers_of_references
        if self.softmax == "taylor":
            refuse_other_queries(self.query_set)
            target, references = (
                taylor_log_confidence(logits, evidence.labels, self.temperature)[..., None]
                for logits in (evidence.target.logits, answers.logits)
            )
        else:
            statistic = "log_confidence" if self.temperature == 1 else "log_confidence_t2"
            target = evidence.target.statistic(statistic, self.query_set)
            references = answers.statistic(statistic, self.query_set)
        together = finite(np.concatenate([target, references]))
        return Probabilities(together[0], together[1:])

    def _slope(self, everyone: Probabilities, membership: Bools, game: Bools, public: Bools) -> float:
        """`a`, chosen on the references where it is left open and matters."""
        if self.a is not None:
            return self.a
        if self.online and not public.any():
            return 1.0  # no record's marginal is built from OUT references alone
        return choose_a(everyone.references[:, game], membership[:, game])

    def _marginal(self, references: Floats, membership: Bools, a: float) -> Floats:
        if self.online:
            return log_mean_of_worlds(references, membership, self.trim)
        return log_marginal_from_outside(log_mean(references, ~membership, self.trim), a)


def _at(probabilities: Probabilities, records: Bools) -> Probabilities:
    return Probabilities(probabilities.target[records], probabilities.references[:, records])
