"""CIFAR-10 from its binary version, or from images in folders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar, NamedTuple

import numpy as np

from sfumato.data.formats.archives import Files, Limits, opened_files
from sfumato.data.formats.files import GIBIBYTE, existing
from sfumato.data.formats.images import SUFFIXES, Decoding, read_images
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source, chosen_rows
from sfumato.errors import DataError
from sfumato.validate import one_of

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PARTS = {"train": ("train",), "test": ("test",), "both": ("train", "test")}
BATCHES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
RECORD_BYTES = 1 + 3 * 32 * 32


class _Read(NamedTuple):
    """uint8 images [n, 3, 32, 32], int64 labels [n], text ids [n], text part [n]."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    part: np.ndarray


@dataclass(frozen=True)
class CIFAR10(Source):
    """60,000 colour photographs of 32x32 pixels in 10 classes (A. Krizhevsky, 2009).

    The set does not say whose photographs they are, so the unit of privacy is the example.

    Args:
        path: folder or archive with the binary version (`data_batch_1.bin` ...; also `cifar-10-binary.tar.gz` as it
            comes), or folder or zip of images `train/<class>/*`, `test/<class>/*`. The Python version holds pickles,
            which can run code, and is refused.
        part: "train" (50,000), "test" (10,000) or "both".
        records: how many to take; all by default.
        seed: of the sample; None takes the first ones (of images sorted by name, which means by class).
    """

    name: ClassVar[str] = "cifar10"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "60,000 colour 32x32 images, 10 classes; the binary version, or a folder or zip of images."
    path: str
    part: str = "train"
    records: int | None = None
    seed: int | None = 0

    def __post_init__(self) -> None:
        one_of("part", self.part, PARTS)
        object.__setattr__(self, "path", str(self.path))

    def load(self) -> Population:
        path = existing(self.path, what="CIFAR-10 as a folder, zip or tar")
        with opened_files(path, Limits(total=4 * GIBIBYTE)) as files:
            _refuse_pickles(files)
            binary = [name for name in files.names if name.endswith(".bin")]
            read = self._read_binary(files, binary) if binary else self._read_images(files)
        return Population(
            ArrayRecords(read.images),
            Unit("example"),
            labels=read.labels,
            ids=read.ids,
            groups={"part": read.part} if self.part == "both" else {},
            class_names=CLASSES,
            name="cifar10",
            kind="image",
        )

    def _read_binary(self, files: Files, names: list[str]) -> _Read:
        wanted = [(part, batch) for part in PARTS[self.part] for batch in BATCHES[part]]
        batches = [_parse_batch(files, _member(files, names, batch)) for _, batch in wanted]
        raw = np.concatenate(batches)
        ids = [f"{batch}-{i}" for (_, batch), rows in zip(wanted, batches, strict=True) for i in range(len(rows))]
        part = np.repeat([part for part, _ in wanted], [len(rows) for rows in batches])
        rows = chosen_rows(len(raw), self.records, self.seed)
        images = raw[rows, 1:].reshape(-1, 3, 32, 32)
        return _Read(images, raw[rows, 0].astype(np.int64), np.array(ids)[rows], part[rows])

    def _read_images(self, files: Files) -> _Read:
        found = [(name, *_place(name)) for name in files.names if name.lower().endswith(SUFFIXES)]
        listed = [(name, part, label) for name, part, label in found if part in PARTS[self.part]]
        missing = [part for part in PARTS[self.part] if part not in {part for _, part, _ in listed}]
        if missing:
            raise DataError(
                f"Expected CIFAR-10 in {files.where}, got neither `{BATCHES[missing[0]][0]}` nor images "
                f"`{missing[0]}/<class>/...`.",
                remedy="Get the binary version (cifar-10-binary.tar.gz), or name the folder above `train` and `test`.",
            )
        rows = chosen_rows(len(listed), self.records, self.seed)
        chosen = [listed[row] for row in rows]
        images = read_images(files, [name for name, _, _ in chosen], Decoding())
        if images.shape[1:] != (3, 32, 32):
            raise DataError(
                f"Expected images of 32 x 32 pixels in {files.where}, got {images.shape[2]} x {images.shape[3]}.",
                remedy="This is not CIFAR-10: use image-folder or image-zip.",
            )
        labels = np.array([_class(files, name, label) for name, _, label in chosen], dtype=np.int64)
        part = np.array([part for _, part, _ in chosen])
        return _Read(images, labels, np.array([name for name, _, _ in chosen]), part)


def _place(name: str) -> tuple[str, str]:
    """(part, class) from `.../train/cat/1.jpg`; empty text where the folders are others."""
    parts = PurePosixPath(name).parts
    return (parts[-3], parts[-2]) if len(parts) >= 3 else ("", "")


def _class(files: Files, name: str, label: str) -> int:
    if label not in CLASSES:
        raise DataError(
            f"Expected a CIFAR-10 class ({', '.join(CLASSES)}) as the folder of {files.place(name)}, got {label!r}.",
            remedy="Rename the folder, or use image-folder or image-zip for another set.",
        )
    return CLASSES.index(label)


def _refuse_pickles(files: Files) -> None:
    for name in files.names:
        if re.fullmatch(r"data_batch_\d|test_batch|.*\.(pkl|pickle)", PurePosixPath(name).name):
            raise DataError(
                f"Expected CIFAR-10's binary version, got the pickled batch {files.place(name)}, which can run code.",
                remedy="Get cifar-10-binary.tar.gz (files `data_batch_1.bin` ...) from the same owner.",
            )


def _member(files: Files, names: list[str], batch: str) -> str:
    found = [name for name in names if PurePosixPath(name).name == batch]
    if len(found) != 1:
        raise DataError(
            f"Expected one file {batch!r} in {files.where}, got {len(found)}.",
            remedy="Name the folder or archive that holds all batches of the binary version once.",
        )
    return found[0]


def _parse_batch(files: Files, name: str) -> np.ndarray:
    data = files.read(name)
    if not data or len(data) % RECORD_BYTES:
        raise DataError(
            f"Expected records of {RECORD_BYTES} bytes at {files.place(name)}, got {len(data)} bytes.",
            remedy="The file is cut off or of another set (CIFAR-100 has two label bytes): fetch it again.",
        )
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    if rows[:, 0].max() > 9:
        bad = int((rows[:, 0] > 9).argmax())
        raise DataError(
            f"Expected labels 0 to 9 at {files.place(name)}, got {rows[bad, 0]} at record {bad}.",
            remedy="This is not CIFAR-10's binary version, or the file is damaged.",
        )
    return rows
