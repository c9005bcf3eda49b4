"""How jobs travel to worker processes of our own: populations once, as memory-mapped files; recipes as pickles.

The pickles go through a private pipe between a process and the workers that it started itself, and never touch a file.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfumato.accounting.history import History
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.execution.bundles import Bundle
from sfumato.execution.jobs import TrainJob
from sfumato.targets.queries import QuerySet
from sfumato.training.recipe import AnyRecipe


class Parcel(NamedTuple):
    """A job on its way: everything but the population, which is named by its folder. `key` was computed at home."""

    recipe: AnyRecipe
    population: str
    rows: np.ndarray
    seed: int
    dtype: str
    label: str
    asked: np.ndarray | None
    key: str
    recipe_hash: str


class BundleParcel(NamedTuple):
    """A bundle on its way."""

    jobs: tuple[Parcel, ...]
    queries: dict[str, list[QuerySet]]
    executor: str
    not_stacked_because: str


def unpicklable(recipe: AnyRecipe) -> str | None:
    """Why a recipe cannot be sent to another process, or None."""
    try:
        data = pickle.dumps(recipe)
    except Exception as error:  # noqa: BLE001, RUF100 - pickling runs the user's own code
        return f"its recipe {recipe.name} cannot be sent to another process ({type(error).__name__}: {error})"
    if b"__main__" in data:
        return f"its recipe {recipe.name} is defined in the script itself; other processes can only import modules"
    return None


def write_population(population: Population, folder: Path) -> None:
    """Write what training and asking need of a population: no ids, no groups."""
    folder.mkdir(parents=True)
    records = population.records
    array = (
        records.array if isinstance(records, ArrayRecords) else population.tensor(np.arange(len(population))).numpy()
    )
    np.save(folder / "records.npy", array, allow_pickle=False)
    np.save(folder / "labels.npy", population.label_array, allow_pickle=False)
    if population.unit.of is not None:
        np.save(folder / "unit_of.npy", population.unit_of, allow_pickle=False)
    facts = {
        "unit": population.unit.name,
        "class_names": list(population.class_names),
        "name": population.name,
        "kind": population.kind,
        "events": History(population.events).plain(),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def read_population(folder: Path) -> Population:
    """Inverse of `write_population`; the records are memory-mapped."""
    facts = json.loads((folder / "facts.json").read_text())
    unit_file = folder / "unit_of.npy"
    return Population(
        records=ArrayRecords(np.load(folder / "records.npy", mmap_mode="r", allow_pickle=False)),
        unit=Unit(facts["unit"], np.load(unit_file, allow_pickle=False) if unit_file.exists() else None),
        labels=np.load(folder / "labels.npy", allow_pickle=False),
        class_names=tuple(facts["class_names"]),
        name=facts["name"],
        kind=facts["kind"],
        events=History.from_plain(facts["events"]).events,
    )


def packed(bundle: Bundle, folder: Path) -> BundleParcel:
    """A bundle whose population lies in `folder`."""
    jobs = tuple(
        Parcel(job.recipe, str(folder), job.rows, job.seed, job.dtype, job.label, job.asked, job.key, job.recipe_hash)
        for job in bundle.jobs
    )
    queries = {job.key: list(bundle.queries.get(job.key, ())) for job in bundle.jobs}
    return BundleParcel(jobs, queries, bundle.executor, bundle.not_stacked_because)


def unpacked(parcel: BundleParcel, populations: Mapping[str, Population]) -> Bundle:
    """Inverse of `packed`."""
    jobs = tuple(_job(job, populations[job.population]) for job in parcel.jobs)
    return Bundle(jobs, parcel.queries, parcel.executor, parcel.not_stacked_because)


@dataclass(frozen=True, eq=False)
class ArrivedJob(TrainJob):
    """A job that knows its key from the process that sent it: hashing the data again would say the same."""

    given: tuple[str, str] = ("", "")

    @property
    def key(self) -> str:  # type: ignore[override]
        """As computed by the sender."""
        return self.given[0]

    @property
    def recipe_hash(self) -> str:  # type: ignore[override]
        """As computed by the sender."""
        return self.given[1]


def _job(parcel: Parcel, population: Population) -> TrainJob:
    given = (parcel.key, parcel.recipe_hash)
    own = (parcel.rows, parcel.seed, parcel.dtype, parcel.label, parcel.asked)
    return ArrivedJob(parcel.recipe, population, *own, given=given)


def plain_error(error: Exception) -> dict[str, Any]:
    """An error as it travels back."""
    message = getattr(error, "message", str(error))
    return {"kind": type(error).__name__, "message": message, "remedy": getattr(error, "remedy", "")}


def populations_of(parcels: Sequence[Parcel]) -> set[str]:
    """Folders of the populations that parcels need."""
    return {parcel.population for parcel in parcels}
