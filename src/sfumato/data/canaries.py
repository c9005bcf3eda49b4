"""Canaries: units that are made easy to remember, so that an audit looks where a network leaks most.

Mislabelled canaries stand for the records that a network can only learn by heart (Aerni et al., arXiv 2404.17399),
duplicated ones for people who come up more often than others, isolated ones for rare categories and tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from sfumato.canonical import content_hash
from sfumato.data.population import Picked, Population, Unit
from sfumato.data.records import Records
from sfumato.errors import UsageError
from sfumato.seeding import stream
from sfumato.types import Ints, Rows
from sfumato.validate import at_least, one_of

KINDS = ("natural", "mislabelled", "duplicated", "isolated")
GROUP = "canary"
NONE = "none"
PIXELS = 4  # one pixel in so many may be isolated; more would take away what the image shows


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

    Args:
        population: before; it must not have a group "canary".
        kinds: how many units of each kind; at most as many as there are in all.
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
        column[chosen] = kind
    of_record = column[population.unit_of]
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    marked = replace(
        population,
        groups={**population.groups, GROUP: of_record},
        notes=(*population.notes, *([f"{told} of {population.units} units ({population.unit.name}) are canaries."])),
    )
    return _duplicated(_isolated(_mislabelled(marked, seed), units["isolated"]))


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
    labels, classes = population.label_array.copy(), population.classes
    if classes < 2:
        raise UsageError("Expected at least two classes for a wrong label, got one.", remedy="Name every class.")
    shift = stream(seed, "canaries", "labels").integers(1, classes, len(rows))
    labels[rows] = (labels[rows] + shift) % classes
    return replace(population, labels=labels)


def _isolated(population: Population, units: Ints) -> Population:
    if not len(units):
        return population
    feature_of_unit = np.full(population.units, -1, dtype=np.int64)
    feature_of_unit[units] = np.arange(len(units))
    feature = feature_of_unit[population.unit_of]
    shape = population.records.shape
    if len(shape) == 1:
        records: Records = AppendedColumns(population.records, feature, len(units))
    elif len(shape) == 3:
        records = IsolatedPixels(population.records, feature, corner_pixels(shape[1], shape[2], len(units)))
    else:
        raise UsageError(
            f"Expected rows or images [channels, height, width] for isolated canaries, got records of shape {shape}.",
            remedy="Use other kinds of canaries.",
        )
    return replace(population, records=records)


def corner_pixels(height: int, width: int, count: int) -> Ints:
    """int64 [count], positions in a flattened image: the pixels nearest to any corner, row by row where equally near.

    Raises:
        UsageError: if that is more than a quarter of the image.
    """
    if count > height * width // PIXELS:
        raise UsageError(
            f"Expected at most {height * width // PIXELS} isolated canaries for images of {height}x{width}, got "
            f"{count}: each of them takes a pixel from all images.",
            remedy="Lower their number.",
        )
    down, across = np.arange(height), np.arange(width)
    distance = np.minimum(down, down[::-1])[:, None] + np.minimum(across, across[::-1])
    return np.argsort(distance.ravel(), kind="stable")[:count]


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


@dataclass(frozen=True, eq=False)
class AppendedColumns(Records):
    """Rows with columns after their own: 1 in the column that a record has to itself, else 0.

    Args:
        source: records [features].
        feature: int64 [n], the column of each record, -1 for none.
        columns: how many there are.
    """

    source: Records
    feature: Ints
    columns: int

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.source.shape[0] + self.columns,)

    def take(self, rows: Rows) -> torch.Tensor:
        ones = self.feature[rows][:, None] == np.arange(self.columns)
        return torch.cat([self.source.take(rows), torch.from_numpy(ones).float()], dim=1)

    @property
    def fingerprint(self) -> str:
        return content_hash([self.source.fingerprint, self.feature, self.columns])


@dataclass(frozen=True, eq=False)
class IsolatedPixels(Records):
    """Images with some pixels 0, but for the one that a record has to itself, which is 1, in all channels.

    Args:
        source: records [channels, height, width], pixels in [0, 1].
        feature: int64 [n], index into `pixels` for each record, -1 for none.
        pixels: int64 [k], positions in a flattened image.
    """

    source: Records
    feature: Ints
    pixels: Ints

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def take(self, rows: Rows) -> torch.Tensor:
        images = self.source.take(rows).clone()
        ones = self.feature[rows][:, None] == np.arange(len(self.pixels))
        images.flatten(2)[:, :, self.pixels] = torch.from_numpy(ones).to(images)[:, None]
        return images

    @property
    def fingerprint(self) -> str:
        return content_hash([self.source.fingerprint, self.feature, self.pixels])
