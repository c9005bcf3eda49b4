"""IDX files, the format of MNIST: two zero bytes, a type, the number of dimensions, the sizes, the values.

Only unsigned bytes (type 8) are read, as all image sets in this format use them.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from sfumato.data.formats.files import GIBIBYTE, read_bytes
from sfumato.errors import DataError


def read_idx(path: Path) -> np.ndarray:
    """uint8 [sizes named in the header] from an IDX file, gzip or plain.

    Raises:
        DataError: if the file is not IDX, not of bytes, cut off, or longer than its header says.
    """
    return parse_idx(read_bytes(path, limit=2 * GIBIBYTE), where=path.name)


def parse_idx(data: bytes, *, where: str) -> np.ndarray:
    """uint8 array from the bytes of an IDX file; `where` names it in errors."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != 8 or not 1 <= data[3] <= 4:
        raise DataError(
            f"Expected an IDX file of bytes (00 00 08 0d) at {where!r}, got the start {data[:4].hex(' ')!r}.",
            remedy="Check that this is the set's own file, gzip or plain.",
        )
    begin = 4 + 4 * data[3]
    if len(data) < begin:
        raise _wrong_length(where, f"a header of {begin} bytes", len(data))
    sizes = struct.unpack(f">{data[3]}I", data[4:begin])
    if len(data) != begin + math.prod(sizes):
        raise _wrong_length(where, f"{' x '.join(map(str, sizes))} values after the header", len(data) - begin)
    return np.frombuffer(data, dtype=np.uint8, offset=begin).reshape(sizes)


def _wrong_length(where: str, expected: str, got: int) -> DataError:
    return DataError(
        f"Expected {expected} in {where!r}, got {got} bytes.", remedy="The file is cut off or damaged: fetch it again."
    )
