"""From what a user types (`digits`, `cifar10:FOLDER`, `table.csv`, `folder/`) to a source."""

from __future__ import annotations

import dataclasses
import importlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sfumato.data.formats.files import existing
from sfumato.data.sources.base import Source
from sfumato.data.sources.options import from_text
from sfumato.errors import DataError, UsageError
from sfumato.registry import discover

# Suffix -> source and options that it implies; longer suffixes first.
SUFFIXES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (".csv", "csv", {}),
    (".csv.gz", "csv", {}),
    (".tsv", "csv", {"delimiter": "\t"}),
    (".tsv.gz", "csv", {"delimiter": "\t"}),
    (".parquet", "parquet", {}),
    (".pq", "parquet", {}),
    (".npz", "npz", {}),
    (".zip", "image-zip", {}),
)
REFUSED = {
    (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy.gz"): "A pickle can run code: save arrays as .npz.",
    (".npy",): "Save records and labels together: `numpy.savez(path, x=..., y=...)`.",
    (".xls", ".xlsx", ".ods"): "Save the sheet as CSV.",
    (".tar", ".tar.gz", ".tgz", ".bin"): "For CIFAR-10 write `cifar10:PATH`; pack your own images as a zip.",
    (".gz", "-ubyte"): "For Fashion-MNIST write `fashion-mnist:FOLDER` with the folder of the IDX files.",
}


def sources() -> dict[str, type[Source]]:
    """All sources by name."""
    return discover(importlib.import_module("sfumato.data.sources"), Source)


def open_source(text: str, **options: Any) -> Source:
    """The source that a text names.

    Args:
        text: the name of a source ("digits"), a name and a path ("cifar10:FOLDER"), or a path whose ending tells
            (.csv, .tsv, .parquet, .npz, .zip; gzip for text), or a folder of images.
        options: fields of the source, e.g. `label="diagnosis"`, `unit="patient"`; text for a field that is not text
            is read as on a command line ("a,b" for several names, "64x64", "true"), see `from_text`.

    Raises:
        UsageError: for a name, an ending or an option that is not known, or an option that is missing.
        DataError: for a path with nothing there.
    """
    known = sources()
    name, colon, rest = text.partition(":")
    if name in known and (not colon or rest):
        return _make(known[name], {"path": rest, **options} if colon else options)
    lowered = text.lower()
    for suffix, kind, implied in SUFFIXES:
        if lowered.endswith(suffix):
            return _make(known[kind], {"path": str(existing(text, what="a file")), **implied, **options})
    if Path(text).expanduser().is_dir():
        return _make(known["image-folder"], {"path": text, **options})
    raise _unknown(text, known)


def _make(kind: type[Source], options: dict[str, Any]) -> Source:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for option in options:
        if option not in fields:
            near = get_close_matches(option, fields, n=1)
            raise UsageError(
                f"Expected an option of {kind.name} ({', '.join(fields) or 'it has none'}), got {option!r}.",
                remedy=f"Did you mean {near[0]!r}?" if near else "Leave it out.",
            )
    missing = [name for name, field in fields.items() if _required(field) and name not in options]
    if missing:
        raise UsageError(
            f"Expected {' and '.join(f'`{name}`' for name in missing)} for {kind.name}, got nothing.",
            remedy=" ".join(_WHY.get(name, f"Give `{name}`.") for name in missing).format(kind=kind.name),
        )
    read = {name: from_text(kind, name, value) if isinstance(value, str) else value for name, value in options.items()}
    return kind(**read)


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


_WHY = {
    "path": "Write {kind}:PATH.",
    "label": "Name the column of the classes.",
    "unit": 'Say whose privacy counts: the column that names the person, or "example" where every record is its own.',
    "x": "Arrays in memory are given in Python: Tensors(x, y, unit=...).",
}


def _unknown(text: str, known: dict[str, type[Source]]) -> UsageError | DataError:
    for suffixes, remedy in REFUSED.items():
        if text.lower().endswith(suffixes):
            return DataError(f"Expected data that sfumato reads, got {text!r}.", remedy=remedy)
    near = get_close_matches(text.partition(":")[0].lower().replace("_", "-"), known, n=1, cutoff=0.5)
    if near:
        return UsageError(f"Expected a source, got {text!r}.", remedy=f"Did you mean {near[0]!r}?")
    return UsageError(
        f"Expected one of {', '.join(known)}, or a path to a .csv, .tsv, .parquet, .npz or .zip file or a folder, got "
        f"{text!r}.",
        remedy="Check the name or path.",
    )
