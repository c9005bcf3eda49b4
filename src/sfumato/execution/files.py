"""Files that are whole or absent: written beside their place, then renamed; read only if their checksum agrees."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfumato.atomic import write_atomic
from sfumato.errors import StoreMismatch
from sfumato.types import Floats

MANIFEST = "manifest.json"
FORMAT = 1


class Manifest(NamedTuple):
    """What a folder of the store holds: the key it belongs to, file name -> SHA-256, and plain facts."""

    key: str
    files: dict[str, str]
    facts: dict[str, Any]


def npz_bytes(arrays: Mapping[str, Floats]) -> bytes:
    """An uncompressed npz file (numeric arrays only)."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(values) for name, values in arrays.items()})
    return buffer.getvalue()


def npz_arrays(data: bytes, path: Path) -> dict[str, Floats]:
    """Inverse of `npz_bytes`; `path` is for the message."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise damaged(path, f"an unreadable archive ({error})") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder, with a checksum of itself."""
    body = {"format": FORMAT, "key": manifest.key, "files": manifest.files, "facts": manifest.facts}
    write_atomic(folder / MANIFEST, json.dumps({"sha256": _own_digest(body), **body}, indent=1).encode())


def read_manifest(folder: Path, key: str) -> Manifest | None:
    """The manifest of a folder, or None if the folder does not exist.

    Raises:
        StoreMismatch: if it is damaged, of another format, or of another key.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        return None
    try:
        body = json.loads(path.read_bytes())
        stated = body.pop("sha256")
        manifest = Manifest(body["key"], dict(body["files"]), dict(body["facts"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"an unreadable manifest ({error})") from error
    if stated != _own_digest(body) or body.get("format") != FORMAT:
        raise damaged(path, "a manifest whose checksum or format does not agree")
    if manifest.key != key:
        raise damaged(path, f"the result of another job ({manifest.key[:12]})")
    return manifest


def read_checked(folder: Path, name: str, manifest: Manifest) -> bytes:
    """The content of a file that the manifest lists.

    Raises:
        StoreMismatch: if it is missing or its checksum does not agree.
    """
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise damaged(path, f"no readable file ({error})") from error
    if digest(data) != manifest.files.get(name):
        raise damaged(path, "a file whose checksum does not agree")
    return data


def publish(temporary: Path, folder: Path) -> bool:
    """Rename a finished temporary folder into place; False if there already is one (of the same key, so the same)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(temporary)
        return False
    return True


def digest(data: bytes) -> str:
    """SHA-256 as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


def damaged(path: Path, got: str) -> StoreMismatch:
    """The error for a file that cannot be used."""
    return StoreMismatch(
        f"Expected an intact result at {path}, got {got}.",
        remedy=f"Delete the folder {path.parent} (or let the next run move it aside) and run again.",
    )


def _own_digest(body: dict[str, Any]) -> str:
    return digest(json.dumps(body, sort_keys=True).encode())
