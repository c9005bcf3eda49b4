"""NumPy archives: named arrays, in one piece or as train, validation and test arrays."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sfumato.data.formats.files import existing_file
from sfumato.data.formats.npz import array_names, read_arrays
from sfumato.data.formats.table import check_columns
from sfumato.data.population import Population
from sfumato.data.sources.arrays import LAYOUTS, as_labels, as_records, build
from sfumato.data.sources.base import Source, names
from sfumato.errors import DataError, UsageError
from sfumato.validate import one_of

SPLITS = ("train", "val", "test")
# Role -> other words for it in files with split arrays, e.g. `train_images` (MedMNIST).
WORDS = {"x": ("x", "X", "images", "data", "features"), "y": ("y", "Y", "labels", "targets")}


@dataclass(frozen=True)
class NPZ(Source):
    """Arrays of the user's own. Pickles inside are never read.

    Args:
        path: the .npz file.
        unit: name of the array [n] that names the unit of each record, or "example". There is no default.
        x: name of the records. uint8 [n, h, w] and [n, h, w, c] are images, [n, features] rows. Where
            it is absent, arrays like `x_train`, `train_images` are looked for.
        y: name of the labels [n] or [n, 1].
        part: "all", "train", "val" or "test", for files with split arrays.
        groups: names of arrays [n], for results by group.
        classes: public list of class names, in order.
        layout: "auto", or what the axes of x are: "NHW", "NHWC", "NCHW", "rows".
    """

    name: ClassVar[str] = "npz"
    summary: ClassVar[str] = "Your own arrays as NumPy .npz; also with train, val and test arrays (MedMNIST)."
    path: str
    _: KW_ONLY
    unit: str
    x: str = "x"
    y: str = "y"
    part: str = "all"
    groups: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    layout: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))
        object.__setattr__(self, "groups", names(self.groups))
        object.__setattr__(self, "classes", names(self.classes))
        one_of("part", self.part, ("all", *SPLITS))
        one_of("layout", self.layout, LAYOUTS)
        if not self.unit:
            raise UsageError("Expected `unit`, got nothing.", remedy='Give an array, or "example" for row by row.')

    def load(self) -> Population:
        path = existing_file(self.path, what="an .npz file")
        present = list(array_names(path))
        parts = self._parts(present, path.name)
        arrays = [self._read_part(path, present, part) for part in parts]
        joined = {role: _joined([array[role] for array in arrays], role, path.name) for role in arrays[0]}
        groups = {name: joined[name] for name in self.groups}
        if len(parts) > 1:
            sizes = [len(array["x"]) for array in arrays]
            groups["part"] = np.repeat(list(parts), sizes)
        records = as_records(joined["x"], self.layout, f"{path.name}, array `{self.x}`")
        labels = as_labels(joined["y"], self.classes, f"{path.name}, array `{self.y}`")
        return build(records, labels, self.unit, joined.get(self.unit), groups=groups, name=path.stem)

    def _parts(self, present: list[str], where: str) -> tuple[str, ...]:
        """The splits to read; ("",) where x stands alone."""
        if self.x in present:
            if self.part != "all":
                raise UsageError(
                    f"Expected split arrays for part {self.part!r}, got `{self.x}`.", remedy="Drop `part`."
                )
            return ("",)
        found = tuple(part for part in SPLITS if _spelled(self.x, part, present))
        if not found or (self.part != "all" and self.part not in found):
            check_columns({"x": [self.x if self.part == "all" else f"{self.x}_{self.part}"]}, present, where)
        return found if self.part == "all" else (self.part,)

    def _read_part(self, path: Path, present: list[str], part: str) -> dict[str, np.ndarray]:
        """Role or name -> array of one part, all of one length."""
        wanted = [self.x, self.y, *self.groups]
        if self.unit != "example" or _spelled(self.unit, part, present):
            wanted.append(self.unit)
        stored = {name: _spelled(name, part, present) or (f"{name}_{part}" if part else name) for name in wanted}
        check_columns({f"array {name}": [spelling] for name, spelling in stored.items()}, present, path.name)
        arrays = read_arrays(path, list(stored.values()))
        roles = {self.x: "x", self.y: "y"}
        read = {roles.get(name, name): arrays[spelling] for name, spelling in stored.items()}
        for name, array in read.items():
            if array.ndim == 0 or len(array) != len(read["x"]):
                raise DataError(
                    f"Expected {len(read['x'])} entries in {path.name}, array `{stored.get(name, name)}`, got shape "
                    f"{array.shape}.",
                    remedy="Save one entry per record in each array.",
                )
        return read


def _spelled(name: str, part: str, present: list[str]) -> str | None:
    """How the file spells an array of a part: `x_train`, `train_x`, or with another word for its role."""
    if not part:
        return name if name in present else None
    words = next((words for words in WORDS.values() if name in words[:1]), (name,))
    spellings = [form for word in words for form in (f"{word}_{part}", f"{part}_{word}")]
    return next((spelling for spelling in spellings if spelling in present), None)


def _joined(arrays: list[np.ndarray], role: str, where: str) -> np.ndarray:
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            f"Expected records of one shape in all parts of {where} (`{role}`), got {sorted(shapes)}.",
            remedy="Read one part with `part=`, or save them alike.",
        )
    return np.concatenate(arrays)
