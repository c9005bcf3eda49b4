"""Synthetic owners: records dealt at random to people who do not exist, so that unit and class differ.

In many sets a class is a person, or nobody knows whose record it is. To measure what a guarantee for a whole person
buys, each of these owners gets records of several classes. Some of an owner's records may get a wrong label that was
drawn at random: a secret that only the training can tell, and that nothing about its class gives away.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfumato.data.population import Population, Unit
from sfumato.errors import DataError, UsageError
from sfumato.seeding import stream
from sfumato.types import Ints, Rows
from sfumato.validate import at_least

UNIT = "owner"
PLANTED = "planted"
TRUE_CLASS = "true-class"


def with_owners(population: Population, size: int = 20, planted: int = 1, seed: int = 0) -> Population:
    """The records dealt at random to owners, who are the unit of privacy from then on.

    Every owner gets `size` records; up to `size - 1` that are left over are taken out, and the notes say so. The group
    column "planted" is "planted" for records with a planted label and "" for the others, and "true-class" has the
    number of the class that each record really has, as text. Ids stay.

    Args:
        population: whose unit is the example, with labels.
        size: records of each owner, from 1.
        planted: how many of each owner's records get a wrong label, uniform over all other classes; 0 to `size`.
        seed: decides who gets what.

    Raises:
        UsageError: if the records have people already, or there are fewer than two owners.
    """
    _check(population, size, planted)
    order = stream(seed, "owners").permutation(len(population))[: len(population) // size * size]
    kept = population.take(np.sort(order))
    place = np.searchsorted(np.sort(order), order).reshape(-1, size)  # [owners, size] positions among those kept
    owner = np.empty(len(kept), dtype=np.int64)
    owner[place] = np.arange(len(place))[:, None]
    chosen = np.zeros(len(kept), dtype=bool)
    chosen[place[:, :planted]] = True
    true = kept.label_array
    shift = stream(seed, "owners", "planted").integers(1, kept.classes, len(kept))
    return replace(
        kept,
        unit=Unit(UNIT, np.char.add("owner-", owner.astype(str))),
        labels=np.where(chosen, (true + shift) % kept.classes, true),
        groups={**kept.groups, PLANTED: np.where(chosen, PLANTED, ""), TRUE_CLASS: true.astype(str)},
        notes=(*kept.notes, _told(len(population), len(place), size, planted)),
    )


def planted_rows(population: Population) -> Rows:
    """int64 positions, rising, of the records with a planted label; none where nothing was planted."""
    column = population.groups.get(PLANTED)
    return np.empty(0, dtype=np.int64) if column is None else np.flatnonzero(np.asarray(column) == PLANTED)


def true_labels(population: Population) -> Ints:
    """int64 [n]: the class that each record really has; the label where nothing was planted."""
    column = population.groups.get(TRUE_CLASS)
    return population.label_array if column is None else np.asarray(column).astype(np.int64)


def _check(population: Population, size: int, planted: int) -> None:
    at_least("owners", size, 1)
    at_least("planted", planted, 0)
    if planted > size:
        raise UsageError(f"Expected at most {size} planted labels for each owner, got {planted}.", remedy="Lower it.")
    if population.unit.of is not None:
        raise UsageError(
            f"Expected records that are units of their own, got the unit {population.unit.name!r}.",
            remedy='Owners are made up: keep the real people, or set unit = "example" to study made-up ones.',
        )
    if clash := sorted({PLANTED, TRUE_CLASS} & set(population.groups)):
        raise UsageError(f"Expected no group {clash[0]!r} before, got one.", remedy="Deal owners once.")
    if population.classes < 2 or len(population) < 2 * size:
        raise DataError(
            f"Expected records of two classes for at least two owners of {size}, got {len(population)} records.",
            remedy="Lower `owners`, or raise `records`.",
        )


def _told(records: int, owners: int, size: int, planted: int) -> str:
    left = records - owners * size
    secret = f", {planted} of them with a planted wrong label" if planted else ""
    rest = f" {left} records were left over and are not used." if left else ""
    return f"{owners} made-up owners have {size} records each{secret}.{rest}"
