"""NumPy archives. Never with pickles; headers are checked against the file before memory is taken."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy

from sfumato.data.formats.files import GIBIBYTE
from sfumato.errors import DataError

MAX_BYTES = 32 * GIBIBYTE


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def array_names(path: Path) -> tuple[str, ...]:
    """The names of the arrays in an .npz file, sorted."""
    with _archive(path) as archive:
        return tuple(sorted(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")))


def read_array(path: Path, name: str, *, limit: int = MAX_BYTES) -> np.ndarray:
    """One array of an .npz file.

    Raises:
        DataError: for an array of Python objects (a pickle), a damaged or cut-off one, or more than `limit` bytes.
    """
    place = f"{path.name}, array `{name}`"
    try:
        with _archive(path) as archive, archive.open(f"{name}.npy") as stream:
            declared = archive.getinfo(f"{name}.npy").file_size
            header = _header(cast(BinaryIO, stream), place)
            size = math.prod(header.shape) * header.dtype.itemsize
            if size > min(declared, limit):
                raise _damaged(place, f"{size} bytes declared and {declared} stored, with a limit of {limit}")
            values = np.frombuffer(stream.read(size), dtype=header.dtype)
            return values.reshape(header.shape, order="F" if header.fortran else "C")
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        raise _damaged(place, str(error)) from error


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Several arrays of an .npz file by name."""
    return {name: read_array(path, name) for name in names}


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        with path.open("rb") as stream:
            start = stream.read(6)
        kind = "a single .npy array" if start == b"\x93NUMPY" else f"a file that starts with {start.hex(' ')!r}"
        raise DataError(
            f"Expected a whole .npz archive at {str(path)!r}, got {kind} ({error}).",
            remedy="Write it with `numpy.savez(path, x=..., y=...)`; pickles are never read.",
        ) from error


def _header(stream: BinaryIO, place: str) -> _Header:
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise _damaged(place, f"format version {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    header = _Header(*read(stream))
    if header.dtype.hasobject:
        raise DataError(
            f"Expected numbers or text in {place}, got Python objects (a pickle, which can run code).",
            remedy="Save the array with a plain dtype, e.g. `array.astype(float)` or `array.astype(str)`.",
        )
    return header


def _damaged(place: str, why: str) -> DataError:
    return DataError(f"Expected a whole array in {place}, got: {why}.", remedy="Write or copy the file again.")
