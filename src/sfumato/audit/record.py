"""The audit record: everything that was found, in a form that can be saved, compared and rendered. No personal data.

A record is two files side by side: `NAME.json` (schema below, versioned) and `NAME.npz` (curves and per-target values).
Neither holds record values, ids, or scores by record; those of the worst-hit units go to a local file of their own.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, PrivateAttr, ValidationError

from sfumato.atomic import write_atomic
from sfumato.audit.curves import Frontier
from sfumato.audit.inverted import InversionDesign, InversionResult
from sfumato.audit.measured import (
    AttackResult,
    Curve,
    EpsilonFinding,
    Finding,
    GroupResult,
    NotRun,
    QueryRisk,
    ReferenceRisk,
    UnitRates,
    Value,
    Vulnerability,
)
from sfumato.audit.tuned import TuningSummary
from sfumato.errors import UsageError
from sfumato.validate import one_of

__all__ = [
    "AttackResult",
    "AuditRecord",
    "CheckResult",
    "Comparison",
    "Curve",
    "DataSummary",
    "DefenceSummary",
    "Design",
    "EpsilonAt",
    "EpsilonFinding",
    "Finding",
    "Frontier",
    "GroupResult",
    "GuaranteeNumbers",
    "GuaranteeSummary",
    "InversionDesign",
    "InversionResult",
    "NotRun",
    "Notice",
    "PermittedCurve",
    "Provenance",
    "QueryRisk",
    "ReferenceRisk",
    "StrengthSummary",
    "Subject",
    "TuningSummary",
    "UnitRates",
    "Value",
    "Verdict",
    "Vulnerability",
]

SCHEMA_VERSION = 5
MOST_ARRAY_BYTES = 10**9  # a record holds a few numbers per target; more is no record, or a zip bomb


class DefenceSummary(Value):
    """Which defence, with its settings.

    `reconstruction` says what of the published method is not known, for one that is rebuilt; `needs` what it asks for
    (reference data, features, a course of trainings); `guard` whether it changes answers; `couples` why it makes
    examples depend on each other; `trainings` what it costs in ordinary trainings.
    """

    name: str
    family: str
    reference: str
    summary: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    reconstruction: str = ""
    needs: list[str] = Field(default_factory=list)
    guard: bool = False
    couples: str = ""
    trainings: float = 1.0


class EpsilonAt(Value):
    """One point of epsilon(delta)."""

    epsilon: float
    delta: float


class PermittedCurve(Value):
    """The highest TPR that any attack can have in this game under a guarantee, at rising FPR.

    `group_size` is how many changes of the guarantee's adjacency the game makes when it turns a member into a
    non-member.
    """

    fpr: list[float]
    tpr: list[float]
    group_size: int

    def at(self, fpr: float) -> float | None:
        """The TPR permitted at exactly this FPR, or None where it is not on the grid."""
        return next((tpr for x, tpr in zip(self.fpr, self.tpr) if abs(x - fpr) <= 1e-9 * fpr), None)


class GuaranteeNumbers(Value):
    """A formal guarantee in numbers; `note` says why there is no `permitted` curve."""

    epsilon: float
    delta: float
    adjacency: str
    unit: str
    accountant: str
    audit_only: bool
    mechanisms: list[dict[str, Any]]
    profile: list[EpsilonAt] = Field(default_factory=list)
    permitted: PermittedCurve | None = None
    note: str = ""


class GuaranteeSummary(Value):
    """The formal guarantee, or the sentence that says why there is none (and then no number)."""

    status: Literal["none", "formal"]
    statement: str
    numbers: GuaranteeNumbers | None = None


class Subject(Value):
    """One recipe or artefact under audit: utility beside leakage beside guarantee.

    `artefact` says what was attacked: the released module itself, siblings trained the same way, or predictions only.
    `random_answers` says whether the same record may get another answer each time; None where that is not known.
    """

    name: str
    artefact: str
    defence: DefenceSummary
    guarantee: GuaranteeSummary
    history: list[dict[str, Any]] = Field(default_factory=list)
    recipe: dict[str, Any] = Field(default_factory=dict)
    utility: list[Finding] = Field(default_factory=list)
    attacks: list[AttackResult] = Field(default_factory=list)
    strongest: str = ""
    not_run: list[NotRun] = Field(default_factory=list)
    groups: list[GroupResult] = Field(default_factory=list)
    random_answers: bool | None = None
    query_risk: list[QueryRisk] = Field(default_factory=list)
    reference_risk: list[ReferenceRisk] = Field(default_factory=list)
    vulnerability: Vulnerability | None = None
    unit_rates: UnitRates | None = None
    epsilon: list[EpsilonFinding] = Field(default_factory=list)
    inversions: list[InversionResult] = Field(default_factory=list)
    training_seconds: float = 0.0

    def attack(self, name: str) -> AttackResult | None:
        """The result of the attack called `name`, or None."""
        return next((a for a in self.attacks if a.name == name), None)


class Comparison(Value):
    """A paired difference between two subjects in one number: `subject` minus `baseline`, over the same targets."""

    finding: str
    at: float | None = None
    attack: str = ""
    subject: str
    baseline: str
    difference: Finding


class DataSummary(Value):
    """What the population was, in counts."""

    name: str
    kind: str
    records: int
    units: int
    unit: str
    classes: int
    shape: list[int]
    fingerprint: str
    game_units: int
    public_units: int
    groups: list[str] = Field(default_factory=list)


class Design(Value):
    """How many models were trained and who was in them."""

    name: str
    models: int
    targets: int
    references_per_target: int
    executor: str = ""
    reused: int = 0
    trained: int = 0


class CheckResult(Value):
    """One threshold that the user gave, and what came of it."""

    name: str
    condition: str
    outcome: Literal["passed", "failed", "unknown"]
    explanation: str


class Notice(Value):
    """A warning with its severity and remedy."""

    severity: Literal["critical", "theoretical", "negligible"]
    text: str
    remedy: str = ""


class StrengthSummary(Value):
    """How much of the protocol at full strength was carried out.

    `reached` is "full", "scaled" (fewer models or canaries than it states), or "not full": a part of it is missing.
    `canaries` counts units in the game by kind; `scaled` and `missing` say what, in sentences.
    """

    reached: Literal["full", "scaled", "not full"]
    canaries: dict[str, int]
    models: int
    scaled: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)


class Verdict(Value):
    """The sentence on top, with the evidence for and against. `status` follows from the user's checks alone."""

    status: Literal["no thresholds given", "passed", "failed", "unknown"]
    sentence: str
    in_favour: list[str] = Field(default_factory=list)
    against: list[str] = Field(default_factory=list)


class Provenance(Value):
    """Where the record comes from and how to repeat it."""

    created: str
    command: str
    seed: int
    seconds: float
    versions: dict[str, str]
    machine: dict[str, str | int | float]


class AuditRecord(Value):
    """All that one run found. Render it with `sfumato.report`, check it with `sfumato.audit.checks`."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compare", "audit", "release", "predictions", "scores"]
    title: str
    data: DataSummary
    design: Design
    subjects: list[Subject]
    comparisons: list[Comparison] = Field(default_factory=list)
    frontier: Frontier | None = None
    inversion: InversionDesign | None = None
    tuning: list[TuningSummary] = Field(default_factory=list)
    strength: StrengthSummary | None = None
    verdict: Verdict
    checks: list[CheckResult] = Field(default_factory=list)
    notices: list[Notice] = Field(default_factory=list)
    not_tested: list[str] = Field(default_factory=list)
    citations: dict[str, str] = Field(default_factory=dict)
    provenance: Provenance

    _arrays: dict[str, np.ndarray] = PrivateAttr(default_factory=dict)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the npz file: name -> array, names like "undefended/lira-online/per_target/auc"."""
        return self._arrays

    def __eq__(self, other: object) -> bool:
        """Equal in every value and every array."""
        if not isinstance(other, AuditRecord) or self.arrays.keys() != other.arrays.keys():
            return False
        same = all(np.array_equal(array, other.arrays[name], equal_nan=True) for name, array in self.arrays.items())
        return same and self.model_dump() == other.model_dump()

    def with_arrays(self, arrays: dict[str, np.ndarray]) -> AuditRecord:
        """A copy that carries these arrays; objects are refused, since only pickle could hold them."""
        wrong = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
        if wrong:
            raise UsageError(f"Expected arrays of numbers or text, got objects in {wrong[0]!r}.")
        copy = self.model_copy()
        copy._arrays = dict(arrays)
        return copy

    def subject(self, name: str) -> Subject:
        """The subject called `name`."""
        one_of("subject", name, [subject.name for subject in self.subjects])
        return next(subject for subject in self.subjects if subject.name == name)

    def save(self, path: Path) -> Path:
        """Write `path` (.json is added where it is missing) and the .npz beside it, each atomically.

        Returns:
            The path of the JSON file.
        """
        path = Path(path) if Path(path).suffix == ".json" else Path(path).with_name(f"{Path(path).name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = self._arrays  # none holds objects, see `with_arrays`
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_atomic(path.with_suffix(".npz"), content.getvalue())
        write_atomic(path, f"{self.model_dump_json(indent=1)}\n".encode())
        return path

    @classmethod
    def load(cls, path: Path) -> AuditRecord:
        """Read a record from its JSON file, or from the folder that holds `record.json`.

        Raises:
            UsageError: if it is not there, damaged, of another version, or no record; files are not trusted.
        """
        path = Path(path)
        path = path / "record.json" if path.is_dir() else path
        raw = _parsed(path)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
            raise UsageError(
                f"Expected a record of schema version 1 to {SCHEMA_VERSION}, got {version!r}.",
                remedy="Update sfumato, or check that this is an audit record.",
            )
        try:
            record = cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(
                f"Expected a complete audit record, got {first['msg']!r} at `{where}`.",
                remedy="Give the record.json that sfumato wrote, unchanged.",
            ) from error
        arrays = path.with_suffix(".npz")
        return record.with_arrays(_read_arrays(arrays)) if arrays.exists() else record


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"Expected an audit record at {path}, got {error}.", remedy="Give the record.json that sfumato wrote."
        ) from error


def _refused_constant(name: str) -> float:
    raise ValueError(f"{name}, which is no JSON")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_ARRAY_BYTES:
            raise ValueError(f"arrays of {size / 1e9:.3g} GB")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(
            f"Expected the arrays of an audit record at {path}, got {error}.",
            remedy="Give the record.npz that sfumato wrote, or remove it: the report needs the JSON file only.",
        ) from error
