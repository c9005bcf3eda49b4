"""From the choice of data to a population."""

from __future__ import annotations

from dataclasses import fields
from pathlib import PurePath
from typing import Any, NamedTuple

from sfumato.audit.settings import AuditSettings
from sfumato.cli.config import DataChoice
from sfumato.data.canaries import with_canaries
from sfumato.data.classes import split_classes
from sfumato.data.owners import with_owners
from sfumato.data.population import Population
from sfumato.data.sources.opening import open_source, sources
from sfumato.errors import DataError, UsageError
from sfumato.seeding import stream


class Opening(NamedTuple):
    """The records that are protected, and those that attackers by inversion have, where there are any."""

    population: Population
    public: Population | None = None


def open_population(choice: DataChoice, seed: int) -> Population:
    """Read the data, take the number of records that was asked for, at random by unit, deal them to made-up owners,
    and make the canaries.

    Raises:
        UsageError: for planted labels without owners.
        DataError: if there are no labels; training needs them.
    """
    return _prepared(_read(choice, seed, sampled=True), choice, seed)


def open_data(choice: DataChoice, settings: AuditSettings) -> Opening:
    """The data, and the public records of a run with inversion.

    Public classes are split off before anything else, so that they have no part in samples, owners and canaries. Where
    a number of records is asked for, at most so many public ones are taken, too.

    Raises:
        UsageError, DataError: as for `open_population`; for public classes that are none, or a source that cannot be
            opened.
    """
    inversion, seed = settings.inversion, settings.seed
    if inversion is None or not inversion.public_classes:
        return Opening(open_population(choice, seed), public_of(choice, settings))
    split = split_classes(_read(choice, seed, sampled=False), inversion.public_classes)
    return Opening(_prepared(split.private, choice, seed), _sampled(split.public, choice, seed, "public records"))


def _read(choice: DataChoice, seed: int, *, sampled: bool) -> Population:
    """All of the source; or no more than asked for, where it can read less."""
    options = dict(choice.options)
    named = sources().get(choice.source.partition(":")[0])
    known = {field.name for field in fields(named)} if named else set()
    if named and "unit" not in known and options.get("unit") == "example":
        del options["unit"]  # the bundled sets know no other unit
    population = open_source(choice.source, **options, **(_sampling(choice, known, seed) if sampled else {})).load()
    if population.labels is None:
        raise DataError("Expected labelled records, got none.", remedy="Name the column of the classes with `--label`.")
    return population


def _prepared(population: Population, choice: DataChoice, seed: int) -> Population:
    population = _owned(_sampled(population, choice, seed, "records"), choice, seed)
    return with_canaries(population, choice.canaries, seed) if choice.canaries else population


def _sampled(population: Population, choice: DataChoice, seed: int, name: str) -> Population:
    return population if choice.records is None else population.sample(choice.records, stream(seed, name))


def public_of(choice: DataChoice, settings: AuditSettings) -> Population | None:
    """The records of another source that attackers by inversion have; None where none is named.

    A file of the same kind as the data is read with the same options.
    """
    source = "" if settings.inversion is None else settings.inversion.public
    if not source:
        return None
    alike = PurePath(source).suffix != "" and PurePath(source).suffix == PurePath(choice.source).suffix
    same_kind = source.partition(":")[0] == choice.source.partition(":")[0]
    options = {key: value for key, value in choice.options.items() if key != "records"} if alike or same_kind else {}
    read = _read(DataChoice(source=source, records=choice.records, options=options), settings.seed, sampled=True)
    return _sampled(read, choice, settings.seed, "public records")


def _owned(population: Population, choice: DataChoice, seed: int) -> Population:
    if choice.owners is not None:
        return with_owners(population, choice.owners, 1 if choice.planted is None else choice.planted, seed)
    if choice.planted:
        raise UsageError(
            f"Expected `owners` beside `planted`, got planted = {choice.planted} alone.",
            remedy="Write how many records each made-up owner has, e.g. owners = 20.",
        )
    return population


def _sampling(choice: DataChoice, known: set[str], seed: int) -> dict[str, Any]:
    """Large image sets read only what is asked for."""
    if choice.records is None or "records" not in known or "records" in choice.options:
        return {}
    return {"records": choice.records, **({} if "seed" in choice.options else {"seed": seed})}
