"""What was measured on one subject of an audit: findings with intervals, in the form the record keeps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Threat = Literal["one query", "many queries", "released weights"]
EVERYONE = "all"  # the group of all units
NOISE_ONLY = "Querying a random model once measures the noise of the answer, not what it remembers."


class Value(BaseModel):
    """Base of all parts of a record: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Finding(Value):
    """One measured number with its interval.

    `value` is None where the data cannot resolve it (`resolvable` False); `at` is the false positive rate, prior or
    other point the number belongs to.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    at: float | None = None
    confidence: float = 0.95
    method: str = ""
    n_members: int = 0
    n_nonmembers: int = 0
    resolvable: bool = True
    note: str = ""


class EpsilonFinding(Value):
    """A lower bound on epsilon, beside the most that a perfect attacker could have certified with as many trials."""

    method: str
    value: float
    ceiling: float
    confidence: float
    delta: float
    assumption: str = ""
    n: int = 0
    attack: str = ""
    note: str = ""


class Curve(Value):
    """A ROC on a grid of false positive rates with a pointwise band; `resolvable_from` is the least resolvable FPR."""

    fpr: list[float]
    tpr: list[float]
    low: list[float]
    high: list[float]
    resolvable_from: float


class Measured(Value):
    """Findings of one attack."""

    findings: list[Finding]

    def finding(self, name: str, at: float | None = None) -> Finding | None:
        """The finding called `name` (at `at`), or None."""
        return next((f for f in self.findings if f.name == name and (at is None or f.at == at)), None)


class AttackResult(Measured):
    """What one attack found on one subject. Numbers count units of privacy; `unit_rule` combined records into units.

    `method` is the method's own name where the result is kept under another one, else "".
    """

    name: str
    method: str = ""
    reference: str
    summary: str
    access: str
    knowledge: str
    queries: str
    settings: dict[str, Any] = Field(default_factory=dict)
    unit_rule: str = "mean"
    targets: int = 1
    references_per_target: int = 0
    per_target: dict[str, list[float | None]] = Field(default_factory=dict)
    curve: Curve | None = None
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """The attack in a sentence."""
        return self.name


class NotRun(Value):
    """An attack that could not run, and why."""

    attack: str
    reasons: list[str]


class GroupResult(Measured):
    """Findings of one attack for one group of units."""

    column: str
    group: str
    attack: str

    @property
    def label(self) -> str:
        """The attack and whom it was tried on."""
        return f"{self.attack} on {self.column} = {self.group}"


class Vulnerability(Value):
    """How unevenly the risk falls on units: distribution of per-unit AUC (IN against OUT over models)."""

    attack: str
    models: int
    edges: list[float]
    counts: list[int]
    quantiles: dict[str, float]
    worst_decile: Finding
    note: str = ""


class UnitRates(Value):
    """How often single units were found: distribution of per-unit TPR over the models trained on the unit.

    All units share the threshold with a pooled FPR of `at`. `worst` is the highest rate of any unit, with an interval
    that holds for all units at once.
    """

    attack: str
    at: float
    models: int
    edges: list[float]
    counts: list[int]
    quantiles: dict[str, float]
    worst: Finding
    note: str = ""


class ReferenceRisk(Measured):
    """What the strongest attack found on members of one role, against all non-members; see `audit.reference_data`.

    `role` is "fit", "validation" or "reference"; `units` the mean number of units with it in the game of a target, None
    where it is not known (then `note` says why).
    """

    role: str
    attack: str
    units: float | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """The attack in a sentence, with the role."""
        return f"{self.attack}, members used as {self.role}"


class QueryRisk(Measured):
    """What one attack found on a model that answers at random, asked in one of several ways; see `audit.queries`.

    `k` answers are asked of each record; `noise` is "fresh" for each of them, "common" to all records, or "off";
    `average` says what is averaged. `threat` is who could ask in this way. `group` is "all", or "canary=mislabelled"
    for the units of one kind.
    """

    attack: str
    k: int
    noise: str
    average: str
    threat: Threat
    group: str = EVERYONE

    @property
    def how(self) -> str:
        """How was asked, in words."""
        if self.noise == "off":
            return "noise off"
        answers = "one answer" if self.k == 1 else f"{self.k} answers"
        if self.noise == "common":
            return f"{answers} under common noise"
        return answers if self.average == "statistic" else f"{answers}, averaged as {self.average}"

    @property
    def label(self) -> str:
        """The attack in a sentence, with how it asked."""
        return f"{self.attack}, {self.how}"
