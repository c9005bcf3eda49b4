"""BASE: the target's probability of the label against its average over reference models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.marginals import log_mean, log_mean_of_worlds
from sfumato.attacks.membership.signals import over_population, read_signal
from sfumato.types import Bools, Floats
from sfumato.validate import in_range, one_of


def base_scores(target: Floats, references: Floats, membership: Bools, offline_factor: float | None) -> Floats:
    """s = log p(x|theta) - log mean_j p_j(x), averaged over variants. Section 4, arXiv 2505.24089.

    Args:
        target: log p_y, [n, variants].
        references: log p_y, [r, n, variants].
        membership: bool [r, n].
        offline_factor: None for the online form, whose mean gives IN and OUT references half the weight each;
            offline the mean is over OUT references and its logarithm is multiplied by this factor.

    Returns:
        float64 [n].
    """
    if offline_factor is None:
        return (target - log_mean_of_worlds(references, membership)).mean(axis=1)
    return (target - offline_factor * log_mean(references, ~membership)).mean(axis=1)


@dataclass(frozen=True, kw_only=True)
class Base(MembershipAttack):
    """Bayes-optimal score under simple assumptions on the loss.

    Args:
        online: whether references trained with the record are used.
        temperature: of the softmax, 1 or 2.
        offline_factor: weight of the reference term offline, in [0, 1].
    """

    name: ClassVar[str] = "base"
    reference: ClassVar[str] = "lassila2025practical"
    bibtex: ClassVar[str] = """@inproceedings{lassila2025practical,
  title = {Practical {B}ayes-Optimal Membership Inference Attacks},
  author = {Lassila, Marcus and {\\"O}stman, Johan and Ngo, Khac-Hoang and {Graell i Amat}, Alexandre},
  booktitle = {Advances in Neural Information Processing Systems},
  note = {arXiv:2505.24089},
  year = {2025}
}"""
    summary: ClassVar[str] = "Log-probability of the label less the log of its average over reference models."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="scores", knowledge="The training recipe, and shadow models."
    )

    online: bool = True
    temperature: int = 2
    offline_factor: float = 0.33

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("temperature", self.temperature, (1, 2))
        in_range("offline_factor", self.offline_factor, 0.0, 1.0)

    def needs(self) -> Needs:
        kind = "in-out" if self.online else "out"
        return Needs(references=kind, minimum_references=1, queries=self.query_set)

    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        statistic = "log_confidence" if self.temperature == 1 else "log_confidence_t2"
        signal = read_signal(evidence, statistic, self.query_set)
        factor = None if self.online else self.offline_factor
        scores = base_scores(signal.target, signal.references, signal.membership, factor)
        return over_population(scores, evidence.game)
