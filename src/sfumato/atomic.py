"""Files that are whole or absent: written beside their place, then renamed onto it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """A temporary file beside `path`, renamed onto it when the block ends, removed if the block fails.

    A reader of `path` sees the old content or the new one, never a part; the folder must exist.

    Args:
        path: the file to be written.
        private: readable by its owner only.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path`, wholly or not at all."""
    with replacing(path, private=private) as temporary:
        temporary.write_bytes(data)
