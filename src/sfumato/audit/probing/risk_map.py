"""The risk map: which regions of a network carry its accuracy, and which carry the risk of its training records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from sfumato.atomic import write_atomic
from sfumato.audit.measured import NotRun, Value
from sfumato.audit.record import DataSummary, DefenceSummary, Finding, Notice, Provenance
from sfumato.errors import UsageError
from sfumato.models.ranking import RankedRegion, Ranking, read_json

SCHEMA_VERSION = 1
PREFERRED = ("rewind-private", "transplant", "rewind", "freeze")  # whose numbers rank the regions: the first measured
RANKED_BY = "auc"
MEANING = (
    "Carried is what the ordinarily trained network has more than the network in which that region was treated, on the "
    "same training sets and seeds: accuracy on records outside the training set, and risk under LiRA."
)


class MappedRegion(Value):
    """One region of the network; `parameters` are names without what scaling of the inputs puts in front of them."""

    name: str
    parameters: list[str]
    count: int


class Effect(Value):
    """One region treated in one way: its own numbers, and what the region is found to carry."""

    region: str
    operation: str
    accuracy: Finding
    risk: list[Finding]
    accuracy_carried: Finding
    risk_carried: list[Finding]

    def carried(self, name: str, at: float | None = None) -> Finding | None:
        """The risk carried by the measure called `name` (at `at`), or None."""
        return next((one for one in self.risk_carried if one.name == name and one.at == at), None)


class Whole(Value):
    """A network in which no region was treated."""

    name: str
    defence: DefenceSummary
    accuracy: Finding
    risk: list[Finding]


class RiskMap(Value):
    """All that one probe found. `ranking` is what a defence reads of it; `apart_from` is the fingerprint of records
    that were kept out of the probe to be attacked later, or ""."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["risk map"] = "risk map"
    title: str
    data: DataSummary
    apart_from: str = ""
    network: str
    models: int
    regions: list[MappedRegion]
    ordinary: Whole
    defended: Whole
    effects: list[Effect]
    ranking: Ranking
    not_run: list[NotRun] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=dict)
    notices: list[Notice] = Field(default_factory=list)
    citations: dict[str, str] = Field(default_factory=dict)
    provenance: Provenance

    @model_validator(mode="after")
    def _fits_together(self) -> RiskMap:
        names = [region.name for region in self.regions]
        treated = [(effect.region, effect.operation) for effect in self.effects]
        if not names or len(set(names)) < len(names) or len(set(treated)) < len(treated):
            raise ValueError("regions and effects must be there once each")
        if {region for region, _ in treated} - set(names) or [r.region for r in self.ranking.regions] != names:
            raise ValueError("effects and ranking must be of the regions of the map")
        return self

    @property
    def operations(self) -> list[str]:
        """The operations that were carried out, in order."""
        return list(dict.fromkeys(effect.operation for effect in self.effects))

    def effect(self, region: str, operation: str) -> Effect | None:
        """What came of treating a region in one way, or None where that was not done."""
        return next((one for one in self.effects if (one.region, one.operation) == (region, operation)), None)

    def save(self, path: Path) -> Path:
        """Write `path` atomically; its folder is made if need be."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, f"{self.model_dump_json(indent=1)}\n".encode())
        return path

    @classmethod
    def load(cls, path: Path) -> RiskMap:
        """Inverse of `save`. The file is not trusted.

        Raises:
            UsageError: if it is not there, damaged, of another version, or no risk map.
        """
        raw = read_json(path)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if type(version) is not int or version != SCHEMA_VERSION:
            raise UsageError(
                f"Expected a risk map of schema version {SCHEMA_VERSION}, got {version!r}.",
                remedy="Update sfumato, or check that this is the map.json of `sfumato probe`.",
            )
        try:
            return cls.model_validate(raw, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                f"Expected a complete risk map, got {first['msg']!r} at `{'.'.join(map(str, first['loc']))}`.",
                remedy="Give the map.json that `sfumato probe` wrote, unchanged.",
            ) from error


def ranked(regions: Sequence[MappedRegion], effects: Sequence[Effect]) -> Ranking:
    """The regions by what the first of `PREFERRED` that was carried out found: accuracy and LiRA's AUC carried."""
    done = {effect.operation for effect in effects}
    operation = next((one for one in PREFERRED if one in done), "")
    found = {effect.region: effect for effect in effects if effect.operation == operation}
    return Ranking(
        operation=operation,
        measure=RANKED_BY,
        regions=[_ranked(region, found.get(region.name)) for region in regions],
    )


def _ranked(region: MappedRegion, effect: Effect | None) -> RankedRegion:
    risk = None if effect is None else effect.carried(RANKED_BY)
    return RankedRegion(
        region=region.name,
        parameters=region.parameters,
        count=region.count,
        risk=None if risk is None else risk.value,
        accuracy=None if effect is None else effect.accuracy_carried.value,
    )
