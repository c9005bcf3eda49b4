"""Opening files that others wrote: near misses for a wrong path, gzip by content, and a limit on what unpacks."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sfumato.errors import DataError

GIBIBYTE = 1 << 30


def existing(path: str | Path, *, what: str) -> Path:
    """The path of a file or folder that is there; otherwise a `DataError` that suggests its neighbours.

    Args:
        path: what the user typed; `~` is expanded.
        what: the words for the error, e.g. "a CSV file".
    """
    given = Path(path).expanduser()
    if given.exists():
        return given
    neighbours = [p.name for p in given.parent.iterdir()] if given.parent.is_dir() else []
    near = get_close_matches(given.name, neighbours, n=1)
    hint = f"Did you mean {str(given.parent / near[0])!r}?" if near else "Check the path."
    raise DataError(f"Expected {what} at {str(path)!r}, got nothing there.", remedy=hint)


def existing_file(path: str | Path, *, what: str) -> Path:
    """As `existing`, and it must be a file."""
    found = existing(path, what=what)
    if not found.is_file():
        raise DataError(f"Expected {what} at {str(path)!r}, got a folder.", remedy="Name the file in it.")
    return found


class _Capped(io.RawIOBase):
    """A stream that refuses to deliver more than `limit` bytes, so that a small hostile file cannot fill the memory."""

    def __init__(self, inner: io.BufferedIOBase, limit: int, where: str) -> None:
        self._inner, self._left, self._limit, self._where = inner, limit, limit, where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._inner.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise DataError(
                f"Expected at most {self._limit} bytes in {self._where}, got more after unpacking.",
                remedy="Check where the file comes from; split it if it is right.",
            )
        return count


@contextmanager
def opened(path: Path, *, limit: int) -> Iterator[io.BufferedReader]:
    """The file's content, unpacked where it starts with gzip's two bytes; at most `limit` bytes of it.

    Raises:
        DataError: if the file cannot be read, is cut off, or holds more than `limit` bytes.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            inner = gzip.GzipFile(fileobj=raw) if zipped else raw
            yield io.BufferedReader(_Capped(inner, limit, str(path)), 1 << 18)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"Expected a whole gzip file at {str(path)!r}, got a damaged or cut-off one ({error}).",
            remedy="Fetch or copy the file again.",
        ) from error
    except OSError as error:
        raise DataError(f"Expected to read {str(path)!r}, got: {error}.", remedy="Check its permissions.") from error


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The whole content of a file, unpacked where it is gzip; at most `limit` bytes."""
    with opened(path, limit=limit) as stream:
        return stream.read()
