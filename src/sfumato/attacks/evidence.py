"""What an attack is given: exactly what it declared that it needs, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sfumato.data.records import Records
from sfumato.errors import NotApplicable
from sfumato.models.base import ModelFamily
from sfumato.targets.answers import Answers
from sfumato.targets.queries import BASE, IMAGES_ONLY, QuerySet
from sfumato.types import Bools, Floats, Ints


@dataclass(frozen=True)
class ThreatModel:
    """Who could mount the attack; printed in the report.

    Args:
        access: what is touched: "labels", "scores", "gradients", "weights".
        knowledge: what else the attacker has, in one sentence.
    """

    access: str
    knowledge: str


@dataclass(frozen=True)
class Needs:
    """What an attack asks for, before anything is trained.

    Args:
        references: "none", "out" (models not trained on the record) or "in-out" (both kinds for every record).
        minimum_references: fewest references of each kind per record.
        public: whether records known to be non-members are needed.
        uses_public: whether such records are read where there are any, without being needed.
        records: whether the records themselves are needed, not only the answers.
        labels_only: whether nothing is read of an answer but its label: scores are then withheld.
        queries: per record, to target and references alike.
        fits_per_target: models that the attack trains for each target (a quantile network, an attack classifier).
    """

    references: str = "none"
    minimum_references: int = 0
    public: bool = False
    uses_public: bool = False
    records: bool = False
    labels_only: bool = False
    queries: QuerySet = BASE
    fits_per_target: int = 0


@dataclass(frozen=True, eq=False)
class Evidence:
    """One target, attacked. Arrays run over all n records of the population.

    Args:
        labels: int64 [n].
        target: answers of one model (models axis of length 1).
        references: answers of r reference models, or None.
        membership: bool [r, n], which reference was trained on which record, or None. Balanced by design: every
            record in the game has equally many IN and OUT references, whatever its membership in the target.
        game: bool [n], the records whose membership is asked; scores elsewhere are ignored.
        public: bool [n], records known to be outside the target's training set and every reference's.
        records: the records themselves, or None.
        kind: "table" or "image".
        model: the target's kind of network where it is known, else None.
        seed: root of the attack's own random streams for this target.
    """

    labels: Ints
    target: Answers
    game: Bools
    public: Bools
    references: Answers | None = None
    membership: Bools | None = None
    records: Records | None = None
    kind: str = "table"
    model: ModelFamily | None = None
    seed: int = 0

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.labels)

    @property
    def answers_of_references(self) -> Answers:
        """The references' answers; refuses where there are none."""
        if self.references is None:
            raise NotApplicable(
                "Expected answers of reference models, got none.",
                remedy="Give a recipe (shadow models are then trained), or choose an attack without references.",
            )
        return self.references

    @property
    def reference_membership(self) -> Bools:
        """bool [r, n]; refuses where there are no references."""
        if self.membership is None:
            raise NotApplicable("Expected the membership of reference models, got none.")
        return self.membership

    def target_statistic(self, name: str, queries: QuerySet) -> Floats:
        """float64 [n, variants] of the target."""
        return self.target.statistic(name, queries)[0]

    def reference_statistic(self, name: str, queries: QuerySet) -> Floats:
        """float64 [r, n, variants] of the references."""
        return self.answers_of_references.statistic(name, queries)

    def restricted_to(self, needs: Needs) -> Evidence:
        """The same evidence without anything that `needs` does not declare."""
        without_references = needs.references == "none"
        references = None if without_references else self.references
        return replace(
            self,
            target=self.target.labels_only() if needs.labels_only else self.target,
            references=references.labels_only() if references is not None and needs.labels_only else references,
            membership=None if without_references else self.membership,
            public=self.public if needs.public or needs.uses_public else self.public & False,
            records=self.records if needs.records else None,
        )


def why_not(needs: Needs, evidence: Evidence) -> tuple[str, ...]:
    """The reasons why an attack with these needs cannot run on this evidence; empty where it can."""
    reasons = []
    if needs.references != "none":
        reasons += _missing_references(needs, evidence)
    if needs.public and not evidence.public.any():
        reasons.append("needs records known to be non-members (`public`), got none")
    if needs.records and evidence.records is None:
        reasons.append("needs the records themselves, got answers only")
    if needs.queries != BASE and needs.queries.key not in evidence.target.scalars:
        reasons.append(f"needs answers to the queries {needs.queries.key}, which this target did not give")
    nothing = evidence.target.scalars.get(needs.queries.key, True) == {}
    if needs.queries.white_box and nothing:
        reasons.append(f"needs a network that draws nothing out of sight for the queries {needs.queries.key}")
    if needs.public and needs.queries.scope == "game":
        reasons.append("needs answers on records known to be non-members, and only those in the game were asked")
    images = evidence.kind == "image" and (needs.queries.white_box or not nothing)
    if needs.queries.augmentation in IMAGES_ONLY and not images:
        reasons.append("needs images for its augmented queries, of 8 pixels a side or more")
    return tuple(reasons)


def _missing_references(needs: Needs, evidence: Evidence) -> list[str]:
    if evidence.references is None or evidence.membership is None:
        return ["needs reference models trained in the same way, got none"]
    members = evidence.membership[:, evidence.game]
    out = int((~members).sum(axis=0).min())
    inside = int(members.sum(axis=0).min())
    missing = []
    if out < needs.minimum_references:
        missing.append(f"needs {needs.minimum_references} references without each record, got {out}")
    if needs.references == "in-out" and inside < needs.minimum_references:
        missing.append(f"needs {needs.minimum_references} references with each record, got {inside}")
    return missing
