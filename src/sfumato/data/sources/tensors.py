"""Arrays in memory, for the Python API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from sfumato.canonical import array_digest
from sfumato.data.population import Population
from sfumato.data.sources.arrays import as_labels, build
from sfumato.data.sources.base import Source, names
from sfumato.errors import DataError, UsageError

Array = np.ndarray | torch.Tensor


@dataclass(frozen=True, eq=False)
class Tensors(Source):
    """Records held as torch tensors or NumPy arrays.

    Args:
        x: [n, features] or images [n, c, h, w]; uint8 is taken as pixels and divided by 255.
        y: [n] classes, whole numbers or (NumPy) text; None without labels.
        unit: the word for whose privacy counts, e.g. "example" or "patient". There is no default.
        unit_of: [n] the unit of each record; None means that every record is a unit of its own ("example" only).
        ids: [n] distinct names.
        groups: name -> [n], for results by group.
        classes: class names in order.
        title: what to call the data in reports.
    """

    name: ClassVar[str] = "tensors"
    summary: ClassVar[str] = "Arrays in memory (Python only): Tensors(x, y, unit=...)."
    x: Array
    y: Array | None = None
    _: KW_ONLY
    unit: str
    unit_of: Array | None = None
    ids: Array | None = None
    groups: Mapping[str, Array] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    title: str = "tensors"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", names(self.classes))
        if not self.unit or (self.unit != "example" and self.unit_of is None):
            raise UsageError(
                f"Expected `unit_of` for the unit {self.unit!r}, got nothing.",
                remedy='Give the unit of each record, or `unit="example"` if every record is its own.',
            )

    def spec(self) -> dict[str, Any]:
        """Plain values that name the arrays by their content."""
        arrays = {"x": self.x, "y": self.y, "unit_of": self.unit_of, "ids": self.ids}
        digests = {key: None if array is None else array_digest(_numpy(array)) for key, array in arrays.items()}
        groups = {group: array_digest(_numpy(values)) for group, values in self.groups.items()}
        facts = {"unit": self.unit, "groups": groups, "classes": self.classes, "title": self.title}
        return {"class": "sfumato.data.sources.tensors.Tensors", **digests, **facts}

    def load(self) -> Population:
        x = _numpy(self.x)
        if x.ndim not in (2, 4):
            raise DataError(
                f"Expected `x` as rows [n, features] or images [n, c, h, w], got shape {x.shape}.",
                remedy="Reshape it; grey images are [n, 1, h, w].",
            )
        labels = None if self.y is None else as_labels(_numpy(self.y), self.classes, "`y`")
        return build(
            x,
            labels,
            self.unit,
            None if self.unit_of is None else _numpy(self.unit_of),
            groups={group: _numpy(values) for group, values in self.groups.items()},
            name=self.title,
            ids=None if self.ids is None else _numpy(self.ids),
        )


def _numpy(array: Array) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        return (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    return np.asarray(array)
