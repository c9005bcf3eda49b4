"""Canaries: units that are made easy to remember, so that an audit looks where a network leaks most.

Mislabelled canaries stand for the records that a network can only learn by heart (Aerni et al., arXiv 2404.17399),
duplicated ones for people who come up more often than others, isolated ones for rare categories and tokens. Which
kind a defence hides worst depends on the defence, so an audit has several: pictures of something else, blank ones, and
near copies of other records under another label, against defences that answer with what a record's neighbours say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sfumato.data.canary_kinds.isolated import isolated_records
from sfumato.data.canary_kinds.others import appended, replaced
from sfumato.data.canary_kinds.strange import Made, blank, near_copies, out_of_distribution
from sfumato.data.population import Picked, Population, Unit
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.types import Ints, Rows
from sfumato.validate import at_least, one_of

KINDS = ("natural", "mislabelled", "duplicated", "isolated", "out-of-distribution", "blank", "near-duplicate")
GROUP = "canary"
NONE = "none"
NEAR_COPY = " near copy"  # behind the name of the record or unit that it is a copy of


def with_canaries(population: Population, kinds: Mapping[str, int], seed: int) -> Population:
    """The population with some of its units turned into canaries, at random and without a look at the records.

    A canary is a whole unit of privacy, with all its records. The group column "canary" names the kind of each record,
    or "none". Ids and units keep their names and positions; copies come last.

    - "natural": the unit as it is.
    - "mislabelled": each label is replaced by another class, all others equally likely.
    - "duplicated": each record appears once more, under the id "ID copy". The copy belongs to the same unit, so both
      enter and leave together, and the guarantee counts them as one. Training sets then differ in size.
    - "isolated": each such unit has a feature that is 0 in every other record. A table gets one more column for each
      such unit, which is 1 in its records. In an image, the pixels nearest to a corner are set to 0 in all channels of
      all images, and one of them to 1 in the records of its unit. The feature is isolated where the first layer has a
      weight of its own for it (a dense layer); a convolution shares its weights among all pixels.
    - "out-of-distribution": each record is replaced by a picture of another bundled set (the notes say which), or in
      tables by a row with each column from another record; its label is uniform over the classes.
    - "blank": each record is replaced by an image of one colour, or a row of one level; its label is uniform.
    - "near-duplicate": a unit, its twin, stays an ordinary one as it is. The canary is a further unit, "UNIT near
      copy", whose records "ID near copy" are the twin's with a little noise and another class, all equally likely.
      In a game of canaries the twin is in every training set (see `twins`), and the near copy in half of them.

    A guarantee is about the records as they stand then: a near copy is a unit of its own, whatever it was made from.

    Args:
        population: before; it must not have a group "canary".
        kinds: how many units of each kind; at most as many as there are in all. A near copy takes one, its twin.
        seed: decides which units, and their new labels.

    Raises:
        UsageError: for an unknown kind, too many canaries, labels that are missing, or records that are neither rows
            nor images.
    """
    counts = _checked(population, kinds)
    order = stream(seed, "canaries").permutation(population.units)
    ends = np.cumsum([0, *counts.values()])
    units = {kind: np.sort(order[a:b]) for kind, a, b in zip(counts, ends[:-1], ends[1:], strict=True)}
    column = np.full(population.units, NONE, dtype=f"<U{max(map(len, KINDS))}")
    for kind, chosen in units.items():
        column[chosen] = NONE if kind == "near-duplicate" else kind
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    marked = replace(
        population,
        groups={**population.groups, GROUP: column[population.unit_of]},
        notes=(*population.notes, f"{told} of {population.units} units ({population.unit.name}) are canaries."),
    )
    changed = _strange(_mislabelled(marked, seed), seed)
    return _duplicated(_isolated(_near_copied(changed, units["near-duplicate"], seed), units["isolated"]))


def twins(population: Population) -> Rows:
    """int64 [k], rising: the units of which the population has a near copy; often none.

    They belong into every training set of a game of canaries, and are no public records.
    """
    copies = _rows(population, "near-duplicate") if GROUP in population.groups else np.empty(0, dtype=np.int64)
    names = [str(name).removesuffix(NEAR_COPY) for name in population.id_array[copies]]
    return np.unique(population.unit_of[np.isin(population.id_array, names)])


def counts_from(text: str) -> dict[str, int]:
    """Kinds and numbers from text as on a command line, "natural=250,mislabelled=250".

    Raises:
        UsageError: for text of another form, or a kind twice.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        kind, equals, count = (word.strip() for word in part.partition("="))
        if not equals or not count.isdecimal() or kind in found:
            raise UsageError(
                f"Expected canaries as KIND=NUMBER with commas between, each kind once, got {text!r}.",
                remedy="For instance: natural=250,mislabelled=250",
            )
        one_of("canaries", kind, KINDS)
        found[kind] = int(count)
    return found


def _checked(population: Population, kinds: Mapping[str, int]) -> dict[str, int]:
    """Every kind with its number, in the order of `KINDS`."""
    for kind, count in kinds.items():
        one_of("canaries", kind, KINDS)
        if isinstance(count, bool) or not isinstance(count, int):
            raise UsageError(f"Expected a number of {kind} canaries, got {count!r}.", remedy="Use 0, 1, 2, ...")
        at_least(f"canaries {kind}", count, 0)
    if not 0 < sum(kinds.values()) <= population.units:
        raise UsageError(
            f"Expected between 1 and {population.units} canaries, one per unit ({population.unit.name}), got "
            f"{sum(kinds.values())}.",
            remedy="Change their numbers, or raise `records`.",
        )
    if GROUP in population.groups:
        raise UsageError(f"Expected no group {GROUP!r}, got one.", remedy="Add canaries once, or rename the column.")
    return {kind: kinds.get(kind, 0) for kind in KINDS}


def _rows(population: Population, kind: str) -> Rows:
    return np.flatnonzero(population.groups[GROUP] == kind).astype(np.int64)


def _mislabelled(population: Population, seed: int) -> Population:
    rows = _rows(population, "mislabelled")
    if not len(rows):
        return population
    labels, classes = population.label_array.copy(), _two_classes(population)
    labels[rows] = _other_classes(labels[rows], classes, stream(seed, "canaries", "labels"))
    return replace(population, labels=labels)


def _two_classes(population: Population) -> int:
    if population.classes < 2:
        raise UsageError("Expected at least two classes for a wrong label, got one.", remedy="Name every class.")
    return population.classes


def _other_classes(labels: Ints, classes: int, rng: np.random.Generator) -> Ints:
    """For each label another class, all others equally likely."""
    return (labels + rng.integers(1, classes, len(labels))) % classes


def _strange(population: Population, seed: int) -> Population:
    """Out-of-distribution and blank canaries get their records, and labels that say nothing."""
    changed = population
    for kind in ("out-of-distribution", "blank"):
        rows, rng = _rows(population, kind), stream(seed, "canaries", kind)
        if len(rows):
            made = _made(kind, population, len(rows), rng)
            labels = changed.label_array.copy()
            labels[rows] = rng.integers(population.classes, size=len(rows))
            changed = replace(
                changed,
                records=replaced(changed.records, rows, made.values),
                labels=labels,
                notes=(*changed.notes, f"{kind} canaries are {made.source}."),
            )
    return changed


def _made(kind: str, population: Population, count: int, rng: np.random.Generator) -> Made:
    if kind == "blank":
        return blank(population.records, count, rng)
    return out_of_distribution(population.records, population.name, count, rng)


def _near_copied(population: Population, units: Ints, seed: int) -> Population:
    """The twins' near copies come after all records, each a record of a unit that is new."""
    rows = np.flatnonzero(np.isin(population.unit_of, units)).astype(np.int64)
    if not len(rows):
        return population
    rng = stream(seed, "canaries", "near-duplicate")
    values = near_copies(population.records, rows, rng)
    labels = _other_classes(population.label_array[rows], _two_classes(population), rng)
    groups = {name: np.concatenate([column, np.asarray(column)[rows]]) for name, column in population.groups.items()}
    groups[GROUP][len(population) :] = "near-duplicate"
    owners = None if population.unit.of is None else _with_copies(np.asarray(population.unit.of).astype(str), rows)
    return replace(
        population,
        records=appended(population.records, values),
        unit=Unit(population.unit.name, owners),
        labels=np.concatenate([population.label_array, labels]),
        ids=_with_copies(population.id_array, rows),
        groups=groups,
        notes=(
            *population.notes,
            "near-duplicate canaries are units of their own, each beside the unit they are like.",
        ),
    )


def _with_copies(names: np.ndarray, rows: Rows) -> np.ndarray:
    return np.concatenate([names, np.array([f"{name}{NEAR_COPY}" for name in names[rows]])])


def _isolated(population: Population, units: Ints) -> Population:
    if not len(units):
        return population
    feature_of_unit = np.full(population.units, -1, dtype=np.int64)
    feature_of_unit[units] = np.arange(len(units))
    feature = feature_of_unit[population.unit_of]
    return replace(population, records=isolated_records(population.records, feature, len(units)))


def _duplicated(population: Population) -> Population:
    rows = _rows(population, "duplicated")
    if not len(rows):
        return population
    ids = population.id_array
    owners = ids if population.unit.of is None else np.asarray(population.unit.of)
    both = np.concatenate([np.arange(len(population)), rows])
    return replace(
        population,
        records=Picked(population.records, both),
        unit=Unit(population.unit.name, owners[both]),
        labels=None if population.labels is None else population.labels[both],
        ids=np.concatenate([ids, np.array([f"{name} copy" for name in ids[rows]])]),
        groups={name: np.asarray(values)[both] for name, values in population.groups.items()},
    )
