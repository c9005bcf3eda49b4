"""The regions of a network by what they carry, as a risk map holds them, and the rule that picks the riskiest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.errors import UsageError
from sfumato.validate import in_range

FLOOR = 0.01  # accuracy: a region that carries less than one point counts as carrying one point
MOST_BYTES = 16_000_000  # of a map; a file that is larger is none
RULE = (
    "Regions fall by risk carried over accuracy carried (of which less than 0.01 counts as 0.01). The riskiest are the "
    "first of them whose risk adds up to the share asked for of all risk that is above 0."
)


class RankedRegion(BaseModel):
    """What one region carries: by how much `risk` and `accuracy` fall when it is treated; None where not measured.

    `parameters` are names without what scaling of the inputs puts in front of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    region: str = Field(min_length=1, max_length=500)
    parameters: list[str] = Field(min_length=1, max_length=100_000)
    count: int = Field(ge=0)
    risk: float | None
    accuracy: float | None

    @property
    def score(self) -> float:
        """Risk carried per accuracy carried."""
        return (self.risk or 0.0) / max(self.accuracy or 0.0, FLOOR)


class Ranking(BaseModel):
    """Regions in the network's order, with the operation and the measure that their numbers come from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    operation: str
    measure: str
    rule: str = RULE
    regions: list[RankedRegion] = Field(min_length=1, max_length=10_000)

    def riskiest(self, share: float) -> tuple[RankedRegion, ...]:
        """The riskiest regions, see `RULE`, in the network's order.

        Args:
            share: of all risk, in (0, 1].

        Raises:
            UsageError: if no region was found to carry risk.
        """
        in_range("share", share, 0, 1)
        risky = [region for region in self.regions if (region.risk or 0.0) > 0]
        if not risky:
            raise UsageError(
                f"Expected a map in which some region carries risk ({self.measure} under {self.operation}), got none.",
                remedy="Probe with more models and records, or name the regions yourself.",
            )
        wanted, chosen = share * sum(region.risk or 0.0 for region in risky), set[str]()
        for region in sorted(risky, key=lambda one: one.score, reverse=True):
            if chosen and wanted <= 1e-12:
                break
            chosen.add(region.region)
            wanted -= region.risk or 0.0
        return tuple(region for region in self.regions if region.region in chosen)


def read_ranking(path: Path) -> Ranking:
    """The ranking of a saved risk map. The file is not trusted; its other parts are not looked at.

    Raises:
        UsageError: if there is no such file, or it is no map.
    """
    raw = read_json(path)
    try:
        return Ranking.model_validate(raw["ranking"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"Expected a risk map at {Path(path).name}, got no ranking in it.", remedy=_REMEDY) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"Expected a risk map at {Path(path).name}, got {first['msg']!r} at `ranking.{where}`.", remedy=_REMEDY
        ) from error


def read_json(path: Path) -> Any:
    """Plain values of a JSON file of usual size, numbers only that JSON has.

    Raises:
        UsageError: if it cannot be read.
    """
    data = _content(path)
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"Expected a risk map at {Path(path).name}, got {error}.", remedy=_REMEDY) from error


def map_digest(path: Path) -> str:
    """SHA-256 of a saved risk map.

    Raises:
        UsageError: if there is no such file.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    """Of a file of usual size."""
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Expected a risk map at {path.name}, got {error.strerror}.", remedy=_REMEDY) from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"Expected a risk map at {path.name}, got more than {MOST_BYTES} bytes.", remedy=_REMEDY)
    return data


def _refused(name: str) -> float:
    raise ValueError(f"{name}, which is no JSON")


_REMEDY = "Give the map.json that `sfumato probe` wrote, unchanged."
