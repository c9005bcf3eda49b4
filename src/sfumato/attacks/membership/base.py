"""The membership game, and what an attack on it must say."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfumato.attacks.evidence import Evidence, Needs, ThreatModel, why_not
from sfumato.attacks.fits import Fit
from sfumato.errors import UsageError
from sfumato.targets.queries import QuerySet
from sfumato.types import Floats
from sfumato.validate import at_least

_CHOSEN = {"off": "off", "common": "of their own choice"}
_CALLED = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+-]*")


@dataclass(frozen=True, kw_only=True)
class MembershipAttack(ABC):
    """Scores records by how much they look like members. Chooses no threshold, computes no metric, trains nothing.

    Args:
        queries: repeats of every query, for models that answer at random (1 for those that do not).
        augmentation: variants of each record that are asked ("none", "mirror", "mirror-shift").
        noise: of a network that draws: "fresh" for each answer; or, for an attacker who has the weights, "common" to
            all records and models, or "off".
        average: over the repeats: of the "statistic", or the statistic of the mean "logits" or "probabilities".
        called: a name for this configuration, so that variants of one method can stand side by side: results are kept
            under it, and `name` of this instance is it; empty for the method's own name.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "membership"
    reference: ClassVar[str] = ""  # citation key
    bibtex: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    threat_model: ClassVar[ThreatModel] = ThreatModel(access="scores", knowledge="")  # with the usual queries
    unit_rule: ClassVar[str] = "mean"  # how scores of a unit's records are combined, see audit.statistics.units
    antisymmetric: ClassVar[bool] = False  # swapping IN and OUT of the references negates the score

    queries: int = 1
    augmentation: str = "none"
    noise: str = "fresh"
    average: str = "statistic"
    called: str = ""

    def __post_init__(self) -> None:
        at_least("queries", self.queries, 1)
        self.query_set  # noqa: B018 - validates the other fields at construction
        if self.called:
            _check_called(self.called)
            object.__setattr__(self, "name", self.called)  # hides the name of the class, which stays as it is

    @property
    def method(self) -> str:
        """The method's own name, however this instance is called."""
        return type(self).name

    @property
    def query_set(self) -> QuerySet:
        """The queries made for each record."""
        return QuerySet(self.augmentation, self.queries, self.noise, self.average)

    @property
    def threat(self) -> ThreatModel:
        """Who could mount the attack as it is configured."""
        usual = self.threat_model
        if not self.query_set.white_box or usual.access in ("weights", "gradients"):
            return usual
        return ThreatModel(
            "weights", f"The weights, to run the network with its noise {_CHOSEN[self.noise]}. {usual.knowledge}"
        )

    def needs(self) -> Needs:
        """What the attack asks for; by default one query per record and nothing else."""
        return Needs(queries=self.query_set)

    def applies_to(self, evidence: Evidence) -> tuple[str, ...]:
        """Reasons why the attack cannot run here; empty where it can. They reach the record."""
        return why_not(self.needs(), evidence)

    def fits(self, evidence: Evidence) -> tuple[Fit, ...]:
        """The models that must be trained for this target before `score`; by default none."""
        return ()

    @abstractmethod
    def score(self, evidence: Evidence, fitted: Sequence[dict[str, Floats]] = ()) -> Floats:
        """How much each record looks like a member of the target's training set.

        Args:
            evidence: restricted to what `needs` declares.
            fitted: results of `fits(evidence)`, in that order.

        Returns:
            float64 [n], higher means more likely a member; finite for every record in the game. Scores of different
            targets must be comparable, because they are pooled. Random numbers come from `evidence.seed` only.

        Raises:
            NotApplicable: if something needed is missing (see `applies_to`).
        """


def _check_called(called: str) -> None:
    if not _CALLED.fullmatch(called):
        raise UsageError(
            f"Expected `called` as one word of letters, digits and . @ _ + -, got {called!r}.",
            remedy="Write called=lira-hinge, say.",
        )
