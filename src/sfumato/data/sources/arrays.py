"""From arrays to a population: the layout of images, labels of any plain kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sfumato.accounting.history import Event
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords
from sfumato.errors import DataError

LAYOUTS = ("auto", "NHW", "NHWC", "NCHW", "rows")
CHANNELS = (1, 3, 4)


class Labels(NamedTuple):
    """int64 [n] codes, one name per class ("" names for an encoding by the user), and what was fitted."""

    codes: np.ndarray
    names: tuple[str, ...]
    events: tuple[Event, ...]


def as_records(x: np.ndarray, layout: str, place: str) -> np.ndarray:
    """[n, c, h, w] for images, [n, features] for rows.

    Args:
        x: [n, ...].
        layout: one of `LAYOUTS`; "auto" takes uint8 of three axes as NHW, uint8 of four by where 1, 3 or 4 channels
            stand, and two axes as rows.
        place: for errors.
    """
    axes = _detected(x, place) if layout == "auto" else layout
    if axes == "rows":
        return x.reshape(len(x), -1)
    if x.ndim != len(axes):
        raise DataError(
            f"Expected {len(axes)} axes ({axes}) in {place}, got shape {x.shape}.", remedy="Give the right `layout`."
        )
    if axes == "NHW":
        return x[:, None]
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if axes == "NHWC" else x


def _detected(x: np.ndarray, place: str) -> str:
    if x.ndim <= 2:
        return "rows"
    if x.dtype == np.uint8 and x.ndim == 3:
        return "NHW"
    first, last = (x.shape[1] in CHANNELS, x.shape[3] in CHANNELS) if x.ndim == 4 else (False, False)
    if x.dtype == np.uint8 and first != last:
        return "NCHW" if first else "NHWC"
    raise DataError(
        f"Expected rows [n, features] or uint8 images in {place}, got {x.dtype} {x.shape}.",
        remedy=f"Say what the axes are with `layout`: {', '.join(LAYOUTS[1:])}.",
    )


def as_labels(y: np.ndarray, classes: Sequence[str], place: str) -> Labels:
    """Labels from whole numbers, whole floats, booleans or text, shape [n] or [n, 1].

    Whole numbers 0 .. k-1 are an encoding that the user chose and stay as they are; for others a sorted class list is
    fitted on the records (an event), unless `classes` lists them.
    """
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or len(y) == 0 or y.dtype.kind not in "iubfU" or (y.dtype.kind == "f" and not _whole(y)):
        raise DataError(
            f"Expected one class per record in {place}, got {y.dtype} {y.shape}.",
            remedy="Give whole numbers or text, shape [n]; several labels per record and measurements are not treated.",
        )
    y = y if y.dtype.kind == "U" else y.astype(np.int64)
    found, codes = np.unique(y, return_inverse=True)
    if len(found) < 2:
        raise DataError(
            f"Expected at least two classes in {place}, got {found[0]!s} only.", remedy="Check it, and any filter."
        )
    return _coded(y, found, codes.astype(np.int64), tuple(classes), place)


def _coded(y: np.ndarray, found: np.ndarray, codes: np.ndarray, classes: tuple[str, ...], place: str) -> Labels:
    encoded = y.dtype.kind != "U" and found[0] >= 0 and found[-1] < max(len(classes), len(found))
    if encoded:
        return Labels(y, classes or tuple(map(str, range(len(found)))), ())
    words = tuple(map(str, found.tolist()))
    if classes and (unknown := [word for word in words if word not in classes]):
        raise DataError(
            f"Expected classes of {', '.join(map(repr, classes))} in {place}, got {unknown[0]!r}.",
            remedy="Add it to `classes`, or correct the labels.",
        )
    if classes:
        return Labels(np.array([classes.index(word) for word in words], dtype=np.int64)[codes], classes, ())
    fitted = Event("data", f"the class list of {place}, fitted on the records (give `classes`)", len(y))
    return Labels(codes, words, (fitted,))


def _whole(y: np.ndarray) -> bool:
    return bool(np.isfinite(y).all() and (y == np.round(y)).all())


def build(
    records: np.ndarray,
    labels: Labels | None,
    unit: str,
    unit_of: np.ndarray | None,
    *,
    groups: Mapping[str, np.ndarray],
    name: str,
    ids: np.ndarray | None = None,
) -> Population:
    """The population of arrays; four axes are images."""
    return Population(
        ArrayRecords(records),
        Unit(unit, unit_of),
        labels=None if labels is None else labels.codes,
        ids=ids,
        groups={group: np.asarray(values).astype(str) for group, values in groups.items()},
        class_names=() if labels is None else labels.names,
        name=name,
        kind="image" if records.ndim == 4 else "table",
        events=() if labels is None else labels.events,
    )
