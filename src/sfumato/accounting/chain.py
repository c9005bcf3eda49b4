"""A file of records to which one can only append: each line holds the hash of the line before.

Beside it lies a small file with the newest line's number and hash, so that lines cut off at the end are missed. Someone
who replaces both by older copies is not noticed here; whoever keeps a hash elsewhere can ask for it by `contains`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sfumato.atomic import write_atomic
from sfumato.canonical import canonical_json, content_hash
from sfumato.errors import NotPrivateError

_OWN = ("number", "previous", "hash")


class Records(NamedTuple):
    """What a chain holds, verified.

    Args:
        rows: the records, oldest first, each with `number`, `previous` and `hash`.
        fragment: bytes after the last whole line: an append that was interrupted.
    """

    rows: tuple[dict[str, Any], ...]
    fragment: bytes

    @property
    def head(self) -> str:
        """Hash of the newest record; empty before the first."""
        return self.rows[-1]["hash"] if self.rows else ""

    def contains(self, head: str) -> bool:
        """Whether this hash was the newest at some time."""
        return any(row["hash"] == head for row in self.rows)


class _Note(NamedTuple):
    """Number and hash of the record that was the newest when it was written."""

    number: int
    hash: str


@dataclass(frozen=True)
class Chain:
    """A chained file.

    Args:
        path: of the file; it, its head and its lock lie in one folder.
        subject: what it is about; part of the first hash, so that one chain cannot pass for another.
    """

    path: Path
    subject: str

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the chain against other processes; the kernel lets go when this one ends, however it ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._beside(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @property
    def exists(self) -> bool:
        """Whether anything was ever appended here, as far as the folder shows."""
        return self.path.exists() or self._beside(".head").exists()

    def read(self) -> Records:
        """All records.

        Raises:
            NotPrivateError: if a line was changed, moved, added or removed, or the file is gone.
        """
        newest = self._newest()  # first: a process that appends meanwhile writes its record before the note of it
        if not self.path.exists():
            if newest is not None:
                raise self._broken("the file is missing, and its head is still there")
            return Records((), b"")
        *lines, fragment = self.path.read_bytes().split(b"\n")
        rows, previous = [], self._origin
        for number, line in enumerate(lines, 1):
            row = self._checked(line, number, previous)
            rows.append(row)
            previous = row["hash"]
        if newest is None and len(rows) > 1:  # the head of the first record may be lost in an interrupted first append
            if self._newest() is None:
                raise self._broken("the note of its newest record is missing")
            return self.read()  # another process began the file meanwhile
        if newest is not None and (newest.number > len(rows) or rows[newest.number - 1]["hash"] != newest.hash):
            raise self._broken(f"record {newest.number}, once its newest, is not there any more")
        return Records(tuple(rows), fragment)

    def append(self, records: Records, **facts: Any) -> Records:
        """Write one more record and wait until it is on the disk. Call it `locked`, with what `read` gave there."""
        row = {**facts, "number": len(records.rows) + 1, "previous": records.head or self._origin}
        row["hash"] = content_hash(row)
        new = not self.path.exists()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if records.fragment:
                os.ftruncate(handle, os.fstat(handle).st_size - len(records.fragment))
            _write_all(handle, (canonical_json(row) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            _sync_folder(self.path.parent)
        head = {"number": row["number"], "hash": row["hash"]}
        write_atomic(self._beside(".head"), canonical_json(head).encode(), private=True)
        return Records((*records.rows, row), b"")

    @property
    def _origin(self) -> str:
        return hashlib.sha256(f"sfumato chain: {self.subject}".encode()).hexdigest()

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def _checked(self, line: bytes, number: int, previous: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
            facts = {key: value for key, value in row.items() if key != "hash"}
            sound = [row[key] for key in _OWN] == [number, previous, content_hash(facts)]
        except (ValueError, KeyError, AttributeError, UnicodeDecodeError):
            sound, row = False, {}
        if not sound:
            raise self._broken(f"line {number} does not follow from the lines before it")
        return row

    def _newest(self) -> _Note | None:
        """The note of the newest record, or None without one."""
        try:
            head = json.loads(self._beside(".head").read_bytes())
            found = _Note(int(head["number"]), str(head["hash"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken("the note of its newest record is damaged") from error
        if found.number < 1:
            raise self._broken("the note of its newest record is damaged")
        return found

    def _broken(self, what: str) -> NotPrivateError:
        return NotPrivateError(
            f"Expected the records of {self.subject!r} as written, got a damaged file at {self.path}: {what}.",
            remedy="Restore the folder from a backup. Without it nobody can say what was spent.",
        )


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
