"""The Olivetti faces, from images in a zip or a folder."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from sfumato.data.formats.archives import Files, Limits, opened_files
from sfumato.data.formats.files import existing
from sfumato.data.formats.images import Decoding, read_images
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.data.sources.base import Source
from sfumato.errors import DataError, UsageError
from sfumato.types import Ints
from sfumato.validate import one_of

UNITS = ("person", "example")
FACES = 400
OF_EACH = 10
SIDE = 64
MEBIBYTE = 1 << 20
NAME = re.compile(r"(?:.*/)?image-(\d{1,3})\.png")


@dataclass(frozen=True)
class Olivetti(Source):
    """400 grey faces of 64x64 pixels, 10 each of 40 people (AT&T Laboratories Cambridge, 1992 to 1994).

    Args:
        path: zip or folder with `image-0.png` to `image-399.png`, at any depth; image I shows person I // 10.
        unit: "person" (all ten pictures of a person enter and leave together; each class is then one unit, so to learn
            a class is to learn a person) or "example" (each picture is a unit of its own). There is no default.
        size: pixels on each side after shrinking, 8 to 64, bilinear; None keeps 64.
    """

    name: ClassVar[str] = "olivetti"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "400 grey 64x64 faces of 40 people, 10 each; a zip or folder of images image-I.png."
    path: str
    _: KW_ONLY
    unit: str
    size: int | None = None

    def __post_init__(self) -> None:
        one_of("unit", self.unit, UNITS)
        object.__setattr__(self, "path", str(self.path))
        if self.size is not None and not 8 <= self.size <= SIDE:
            raise UsageError(f"Expected `size` from 8 to {SIDE}, got {self.size}.", remedy="E.g. size=32.")

    def load(self) -> Population:
        path = existing(self.path, what="the Olivetti faces as a zip or folder")
        with opened_files(path, Limits(total=64 * MEBIBYTE, one=MEBIBYTE, files=10 * FACES)) as files:
            listed = _faces(files)
            images = read_images(files, list(listed.values()), Decoding("grey", max_pixels=16 * SIDE * SIDE))
            _check_size(images, files)
        people = np.array(list(listed), dtype=np.int64) // OF_EACH
        names = tuple(f"person-{i:02d}" for i in range(FACES // OF_EACH))
        short = f"{len(images)} of the {FACES} faces are there." if len(images) < FACES else ""
        return Population(
            ArrayRecords(images if self.size is None else _shrunk(images, self.size)),
            Unit("example") if self.unit == "example" else Unit("person", np.array(names)[people]),
            labels=people,
            ids=np.array([f"image-{number}" for number in listed]),
            class_names=names[: int(people.max()) + 1],
            name="olivetti",
            kind="image",
            notes=(short,) if short else (),
        )


def _faces(files: Files) -> dict[int, str]:
    """Number of each face -> its name, in the order of the numbers."""
    found: dict[int, str] = {}
    for name in files.names:
        match = NAME.fullmatch(name)
        if match is None:
            continue
        number = int(match.group(1))
        if number >= FACES or number in found:
            raise DataError(
                f"Expected each face from image-0.png to image-{FACES - 1}.png once, got {files.place(name)}"
                f"{' and ' + repr(found[number]) if number in found else ''}.",
                remedy="This is not the Olivetti set, or it was packed twice: use image-zip for your own images.",
            )
        found[number] = name
    if len({number // OF_EACH for number in found}) < 2:
        raise DataError(
            f"Expected faces image-0.png to image-{FACES - 1}.png of two people in {files.where}, got {len(found)}.",
            remedy="Name the zip or folder that holds them; image I shows person I // 10.",
        )
    return dict(sorted(found.items()))


def _check_size(images: Ints, files: Files) -> None:
    if images.shape[1:] != (1, SIDE, SIDE):
        raise DataError(
            f"Expected faces of {SIDE} x {SIDE} pixels in {files.where}, got {images.shape[2]} x {images.shape[3]}.",
            remedy="This is not the Olivetti set: use image-zip for your own images.",
        )


def _shrunk(images: Ints, size: int) -> Ints:
    """uint8 [n, 1, size, size] from uint8 [n, 1, 64, 64]."""
    small = [Image.fromarray(one[0]).resize((size, size), Image.Resampling.BILINEAR) for one in images]
    return np.stack([np.asarray(one) for one in small])[:, None]
