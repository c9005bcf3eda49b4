"""What image folders and image zips share: classes from folder names, units from file names, one array of bytes."""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from sfumato.accounting.history import Event
from sfumato.data.formats.archives import Files, opened_files
from sfumato.data.formats.delimited import Dialect, column_names, read_delimited
from sfumato.data.formats.files import existing_file
from sfumato.data.formats.images import SUFFIXES, Decoding, read_images
from sfumato.data.formats.table import check_columns
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source, names
from sfumato.errors import DataError, UsageError
from sfumato.seeding import stream


@dataclass(frozen=True)
class ImageSource(Source):
    """Images of the user's own, one folder per class.

    Args:
        path: the folder or zip.
        unit: the word for whose privacy counts. "example" means every image is a unit of its own; for any other word
            give `unit_pattern` or `unit_file`. There is no default.
        unit_pattern: regular expression with one group, searched in the name below `inside`, e.g. r"patient(\\d+)_".
        unit_file: CSV with a column `file` (names below `inside`) and a column called like `unit`.
        colour: "rgb" or "grey".
        size: (height, width) to resize to; None refuses mixed sizes.
        inside: folder below `path` that holds the class folders, e.g. "train".
        classes: public list of classes, in order; by default the folder names, a read that stands in the events.
        records: how many images to take (whole units, so a few more may come); all by default.
        seed: of the sample; None takes the first units by name.
    """

    path: str
    _: KW_ONLY
    unit: str
    unit_pattern: str | None = None
    unit_file: str | None = None
    colour: str = "rgb"
    size: tuple[int, int] | None = None
    inside: str = ""
    classes: tuple[str, ...] = ()
    records: int | None = None
    seed: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))
        object.__setattr__(self, "classes", names(self.classes))
        object.__setattr__(self, "size", None if self.size is None else tuple(self.size))
        Decoding(self.colour, self.size)
        self._check_unit()

    @abstractmethod
    def location(self) -> Path:
        """The folder or archive; a `DataError` where it is absent or of the other kind."""

    def load(self) -> Population:
        with opened_files(self.location()) as files:
            listed, beside = self._images(files)
            units = self._units(files, listed)
            chosen = _whole_units(units, self.records, self.seed)
            kept = [listed[row] for row in chosen]
            images = read_images(files, [self._full(name) for name in kept], Decoding(self.colour, self.size))
        labels, classes, events = self._labels(files, kept)
        note = f"{len(beside)} files outside class folders not read, e.g. {beside[0]!r}" if beside else ""
        return Population(
            ArrayRecords(images),
            Unit(self.unit) if self.unit == "example" else Unit(self.unit, units[chosen]),
            labels=labels,
            ids=np.array(kept),
            class_names=classes,
            name=Path(self.path).stem,
            kind="image",
            events=events,
            notes=(note,) if note else (),
        )

    def _check_unit(self) -> None:
        ways = [way for way in (self.unit_pattern, self.unit_file) if way is not None]
        if (self.unit == "example") != (not ways) or len(ways) > 1 or not self.unit:
            raise UsageError(
                f'Expected `unit="example"`, or another word with either `unit_pattern` or `unit_file`, got '
                f"{self.unit!r} with {len(ways)} of them.",
                remedy="Say whose privacy counts, and how to tell from a file whose it is.",
            )
        if self.unit_pattern is not None and _compiled(self.unit_pattern).groups != 1:
            raise UsageError(
                f"Expected `unit_pattern` with one group, got {self.unit_pattern!r}.",
                remedy=r'Put brackets around what names the unit, e.g. "patient(\d+)_".',
            )

    def _full(self, name: str) -> str:
        return f"{self.inside.strip('/')}/{name}" if self.inside else name

    def _images(self, files: Files) -> tuple[list[str], list[str]]:
        """Names below `inside` of the images in class folders, and of files that lie outside them."""
        below = f"{self.inside.strip('/')}/" if self.inside else ""
        found = [name.removeprefix(below) for name in files.names if name.startswith(below)]
        listed = [name for name in found if "/" in name]
        if not listed:
            raise DataError(
                f"Expected class folders with images in {files.where}{'/' + self.inside if self.inside else ''}, got "
                f"{len(found)} files and no folder.",
                remedy="Sort images as <class>/<image>, and name the folder above the classes (`inside`).",
            )
        if odd := [name for name in listed if not name.lower().endswith(SUFFIXES)]:
            raise DataError(
                f"Expected images only in class folders, got {files.place(self._full(odd[0]))}.",
                remedy=f"Move it elsewhere; images end in {', '.join(SUFFIXES)}.",
            )
        return listed, [name for name in found if "/" not in name]

    def _labels(self, files: Files, listed: list[str]) -> tuple[np.ndarray, tuple[str, ...], tuple[Event, ...]]:
        folders = [PurePosixPath(name).parts[0] for name in listed]
        found = sorted(set(folders))
        if len(found) < 2:
            raise DataError(
                f"Expected at least two class folders in {files.where}, got images in {found[0]!r} only.",
                remedy=f"If classes are below it, give `inside={self._full(found[0])!r}`; with `records`, take more.",
            )
        classes = self.classes or tuple(found)
        for name, folder in zip(listed, folders, strict=True):
            if folder not in classes:
                raise DataError(
                    f"Expected a class of {', '.join(map(repr, classes))} for {files.place(self._full(name))}, got "
                    f"{folder!r}.",
                    remedy="Add it to `classes`, or move the folder elsewhere.",
                )
        fitted = Event("data", "the class list, taken from the folders of the records (give `classes`)", len(listed))
        labels = np.array([classes.index(folder) for folder in folders], dtype=np.int64)
        return labels, classes, () if self.classes else (fitted,)

    def _units(self, files: Files, listed: list[str]) -> np.ndarray:
        if self.unit_pattern is not None:
            return np.array([_unit_by_pattern(self.unit_pattern, name, files) for name in listed])
        if self.unit_file is None:
            return np.array(listed)
        known = _read_units(self.unit_file, self.unit)
        if unknown := [name for name in listed if name not in known]:
            raise DataError(
                f"Expected a row for every image in {self.unit_file!r}, got none for {unknown[0]!r} "
                f"({len(unknown)} are missing).",
                remedy="Column `file` holds names below the folder of the classes, e.g. 'cat/1.png'.",
            )
        return np.array([known[name] for name in listed])


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"Expected a regular expression, got {pattern!r}: {error}.", remedy="Correct `unit_pattern`."
        ) from error


def _unit_by_pattern(pattern: str, name: str, files: Files) -> str:
    match = re.search(pattern, name)
    if match is None or not match.group(1):
        raise DataError(
            f"Expected `unit_pattern` {pattern!r} to name the unit of {files.place(name)}, got no match.",
            remedy="Correct the pattern, or give `unit_file`.",
        )
    return match.group(1)


def _read_units(path: str, unit: str) -> dict[str, str]:
    found = existing_file(path, what="a CSV file with columns `file` and the unit")
    check_columns({"unit_file": ["file", unit]}, column_names(found, Dialect()), found.name, ",")
    table = read_delimited(found, Dialect(), words=["file", unit])
    for column in ("file", unit):
        if (lost := table.columns[column].missing).any():
            row = int(np.flatnonzero(lost)[0])
            raise DataError(f"Expected a value at {table.place(row, column)}, got a missing one.", remedy="Fill it in.")
    return dict(zip(table.words("file").text().tolist(), table.words(unit).text().tolist(), strict=True))


def _whole_units(units: np.ndarray, records: int | None, seed: int | None) -> np.ndarray:
    """int64 positions, ascending, of whole units with at least `records` records together."""
    _, first, codes, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    if records is None or records >= len(units):
        return np.arange(len(units))
    order = np.argsort(first)
    if seed is not None:
        order = order[stream(seed, "records").permutation(len(order))]
    enough = int(np.searchsorted(np.cumsum(sizes[order]), records)) + 1
    return np.flatnonzero(np.isin(codes, order[:enough]))
