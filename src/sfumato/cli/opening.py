"""From the choice of data to a population."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sfumato.cli.config import DataChoice
from sfumato.data.canaries import with_canaries
from sfumato.data.owners import with_owners
from sfumato.data.population import Population
from sfumato.data.sources.opening import open_source, sources
from sfumato.errors import DataError, UsageError
from sfumato.seeding import stream


def open_population(choice: DataChoice, seed: int) -> Population:
    """Read the data, take the number of records that was asked for, at random by unit, deal them to made-up owners,
    and make the canaries.

    Raises:
        UsageError: for planted labels without owners.
        DataError: if there are no labels; training needs them.
    """
    options = dict(choice.options)
    named = sources().get(choice.source.partition(":")[0])
    known = {field.name for field in fields(named)} if named else set()
    if named and "unit" not in known and options.get("unit") == "example":
        del options["unit"]  # the bundled sets know no other unit
    population = open_source(choice.source, **options, **_sampling(choice, known, seed)).load()
    if population.labels is None:
        raise DataError("Expected labelled records, got none.", remedy="Name the column of the classes with `--label`.")
    if choice.records is not None:
        population = population.sample(choice.records, stream(seed, "records"))
    population = _owned(population, choice, seed)
    return with_canaries(population, choice.canaries, seed) if choice.canaries else population


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
