"""Download of a public data set, only when asked for, checked against its SHA-256, and put in place in one step."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

from sfumato.atomic import write_atomic
from sfumato.errors import DataError, UsageError

OpenURL = Callable[[str], BinaryIO]


def cache_folder(name: str) -> Path:
    """The user's cache folder for a data set: below XDG_CACHE_HOME, else below ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "sfumato" / name


def _open_https(url: str) -> BinaryIO:
    return urlopen(url, timeout=60)


def download_gzip(url: str, target: Path, *, sha256: str, size: int, open_url: OpenURL = _open_https) -> Path:
    """Fetch a gzip file and store what it holds at `target`.

    Args:
        url: https only.
        target: where the unpacked file goes; it appears whole or not at all.
        sha256: of the unpacked content, 64 hexadecimal digits.
        size: of the unpacked content, in bytes; the download stops once it is passed.
        open_url: opens the address; for tests and proxies.

    Raises:
        DataError: if the address does not answer, or what came is not what the checksum names.
    """
    if not url.startswith("https://"):
        raise UsageError(f"Expected an https address, got {url!r}.", remedy="Use the https address of the host.")
    try:
        with open_url(url) as answer, gzip.GzipFile(fileobj=answer) as stream:
            content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"Expected to download {url}, got: {error}.",
            remedy="Check the connection, or fetch the file yourself and name its folder.",
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"Expected SHA-256 {sha256} for what {url} holds, got {found}.",
            remedy="The file is damaged or was changed: try again, and do not use it otherwise.",
        )
    return _write(content, target)


def _write(content: bytes, target: Path) -> Path:
    """Write a file so that it appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, content)
    return target
