"""A trained model as a folder: weights, what is needed to rebuild it, and a private list of its training records."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.accounting.guarantee import Guarantee, NoGuarantee
from sfumato.accounting.history import Event, History
from sfumato.atomic import write_atomic
from sfumato.canonical import content_hash, plain
from sfumato.cli.config import RunConfig, dump, from_tables
from sfumato.cli.invocation import without_folders
from sfumato.data.formats.delimited import Dialect, column_names, read_delimited
from sfumato.data.formats.files import existing_file
from sfumato.data.formats.table import check_columns
from sfumato.data.population import Population
from sfumato.errors import DataError, NotPrivateError, UsageError
from sfumato.training.recipe import AnyRecipe
from sfumato.training.trained import Trained
from sfumato.types import Bools

WEIGHTS, RECIPE, MEMBERS, KEEPER = "model.safetensors", "recipe.json", "members.csv", "keeper.json"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class ReleaseFolder:
    """What `sfumato train` wrote.

    Args:
        path: the folder.
        config: data, recipe and defence, to rebuild both.
        facts: population fingerprint, content hash of the recipe, utility, guarantee.
    """

    path: Path
    config: RunConfig
    facts: Mapping[str, Any]

    @property
    def members(self) -> Path:
        """The list of training records."""
        return self.path / MEMBERS

    def trained(self) -> Trained:
        """The weights and their history."""
        return Trained.load(self.path / WEIGHTS, key=self.facts["recipe_hash"])

    def check(self, population: Population, recipe: AnyRecipe) -> None:
        """Refuse other data, or another recipe, than the model was trained with."""
        if population.fingerprint != self.facts["fingerprint"]:
            raise DataError(
                "Expected the data that the model was trained on, got others (the fingerprints differ).",
                remedy="Name the same file with the same options and the same number of records.",
            )
        if content_hash(recipe.spec()) != self.facts["recipe_hash"]:
            raise UsageError(
                "Expected the recipe that the model was trained with, got another (its content hash differs).",
                remedy="A model file that changed since, or another version of sfumato? Train the model again.",
            )


def write_release(
    folder: Path, config: RunConfig, recipe: AnyRecipe, trained: Trained, population: Population, facts: dict[str, Any]
) -> ReleaseFolder:
    """Write weights and recipe, each atomically.

    Under a formal guarantee nothing that was read from the records without noise goes into these two: fingerprint,
    measured utility, seconds and numbers of records are in `keeper.json`, which its owner only can read.

    Raises:
        NotPrivateError: if the weights come from an audit run, whose noise can be drawn again.
    """
    found = trained.guarantee
    refuse_audit_run(found)
    folder.mkdir(parents=True, exist_ok=True)
    key = content_hash(recipe.spec())
    public = {
        "schema_version": SCHEMA,
        "recipe_hash": key,
        "spec": plain(recipe.spec()),
        "config": dump(_portable(config)),
        "classes": list(population.class_names),
        "shape": list(population.records.shape),
        "guarantee": found.statement,
    }
    read = {"fingerprint": population.fingerprint, **facts}
    if isinstance(found, Guarantee):
        shown = with_public_numbers(trained)
        shown.save(folder / WEIGHTS, key=key)
        public |= {**shown.facts(), "guarantee_numbers": _numbers(found)}
        read |= {"seconds": trained.seconds, "history": trained.history.plain()}
        _write(folder / KEEPER, _json(read), private=True)
    else:
        trained.save(folder / WEIGHTS, key=key)
        public |= {**read, **trained.facts()}
        (folder / KEEPER).unlink(missing_ok=True)
    _write(folder / RECIPE, _json(public), private=False)
    return ReleaseFolder(folder, config, {**public, **read})


def refuse_audit_run(found: Guarantee | NoGuarantee) -> None:
    """A release must not state a guarantee that its seed can undo.

    Raises:
        NotPrivateError: if the noise of any stage came from a seed.
    """
    if isinstance(found, Guarantee) and found.audit_only:
        raise NotPrivateError(
            "Expected private weights whose noise came from the operating system, got those of an audit run: whoever "
            "has the seed can draw their noise again and take it away.",
            remedy="Train the model for release with `sfumato train`; start it from released or public weights.",
        )


def with_public_numbers(trained: Trained) -> Trained:
    """The same weights without what was counted or timed on the records.

    Events of a mechanism name as many records as its public inputs say, batch size over rate, in place of the true
    number: under add-or-remove that number is private.
    """
    events = tuple(replace(event, records=_public_records(event)) for event in trained.history.events)
    return replace(trained, history=History(events), seconds=0.0, tallies={})


def _public_records(event: Event) -> int:
    """0 where the mechanism of another room does not state the numbers."""
    facts = event.mechanism or {}
    size, rate = facts.get("expected_batch_size"), facts.get("sample_rate")
    return round(size / rate) if size and rate else 0


def _numbers(found: Guarantee) -> dict[str, Any]:
    return {
        "epsilon": found.epsilon,
        "delta": found.delta,
        "adjacency": found.adjacency.value,
        "unit": found.unit,
        "accountant": found.accountant,
        "mechanisms": [plain(mechanism.plain()) for mechanism in found.mechanisms],
    }


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def write_members(folder: Path, ids: np.ndarray) -> Path:
    """The ids of the training records, for their keeper's eyes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id"])
    writer.writerows([[name] for name in ids])
    return _write(folder / MEMBERS, text.getvalue(), private=True)


def read_release(folder: Path) -> ReleaseFolder:
    """Inverse of `write_release`; what is missing or of another version is refused."""
    try:
        facts = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        keeper = folder / KEEPER
        if isinstance(facts, dict) and "guarantee_numbers" in facts:
            facts |= json.loads(keeper.read_text(encoding="utf-8"))
        complete = isinstance(facts, dict) and {"config", "fingerprint", "recipe_hash"} <= set(facts)
        if not complete or facts.get("schema_version") != SCHEMA:
            raise ValueError(f"no complete recipe of version {SCHEMA}")
        return ReleaseFolder(folder, from_tables(tomllib.loads(str(facts["config"]))), facts)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"Expected a model folder of `sfumato train` at {folder}, got {error}.",
            remedy="Give that folder, or weights together with `--recipe`, `--members` and the data.",
        ) from error


def read_members(path: Path, population: Population) -> Bools:
    """bool [units]: who was in the training set, from a CSV file with a column `id`.

    Raises:
        DataError: if an id is not in the population, or a unit is in with some of its records only.
    """
    path = existing_file(str(path), what="a list of training records")
    dialect = Dialect(",", True, "utf-8", ("",))
    present = column_names(path, dialect)
    check_columns({"members": ["id"]}, present, path.name, ",")
    listed = read_delimited(path, dialect, words={"id"}, skip=set(present) - {"id"}).words("id").text()
    ids = np.char.strip(population.id_array)  # cells are stripped as well
    inside = np.isin(ids, listed)
    unknown = np.setdiff1d(listed, ids)
    if len(unknown) or not len(listed):
        first = f"{str(unknown[0])!r}" if len(unknown) else "an empty list"
        raise DataError(f"Expected ids of these data in {path.name}, got {first}.", remedy="Check the `id` column.")
    counts = np.bincount(population.unit_of, inside, population.units)
    if ((counts > 0) & (counts < np.bincount(population.unit_of, minlength=population.units))).any():
        raise DataError(
            f"Expected whole units ({population.unit.name}) in {path.name}, got some with part of their records.",
            remedy="List all records of a unit, or none.",
        )
    return counts > 0


def _portable(config: RunConfig) -> RunConfig:
    """The folder that the data lie in stays out of a file that may be published."""
    return replace(config, data=replace(config.data, source=without_folders(config.data.source)))


def _write(path: Path, text: str, *, private: bool) -> Path:
    write_atomic(path, text.encode(), private=private)
    return path
