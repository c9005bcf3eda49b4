"""Folders and archives that others packed, read file by file in memory. Nothing is ever unpacked onto the disk."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sfumato.data.formats.files import GIBIBYTE
from sfumato.errors import DataError

SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to.

    Args:
        total: bytes, all files together.
        one: bytes, a single file.
        files: how many files.
    """

    total: int = 32 * GIBIBYTE
    one: int = GIBIBYTE // 2
    files: int = 5_000_000


class Files(ABC):
    """Named files of a folder or an archive.

    Args:
        where: what to call the whole in errors.
        names: sorted relative names with forward slashes; system litter (`.DS_Store`, `__MACOSX/`) is not among them.
    """

    def __init__(self, where: str, names: Iterator[str]) -> None:
        self.where = where
        self.names = tuple(sorted(name for name in names if not _litter(name)))

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of one file; a `DataError` that names it where it cannot be read."""

    def place(self, name: str) -> str:
        """Words that lead the user to a file."""
        return f"{name!r} in {self.where}"


class _FolderFiles(Files):
    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits = root, limits
        super().__init__(root.name, _walk(root))

    def read(self, name: str) -> bytes:
        path = self._root / name
        try:
            _check_size(path.stat().st_size, self._limits.one, self.place(name))
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"Expected to read {self.place(name)}, got: {error}.", remedy="Check the file.") from error


class _ZipFiles(Files):
    def __init__(self, path: Path, archive: zipfile.ZipFile, limits: Limits) -> None:
        self._archive = archive
        infos = [info for info in archive.infolist() if not info.is_dir()]
        for info in infos:
            _check_member(info.filename, path.name, link=(info.external_attr >> 16) & 0o170000 == 0o120000)
            _check_size(info.file_size, limits.one, f"{info.filename!r} in {path.name}")
        _check_whole(len(infos), sum(info.file_size for info in infos), limits, path.name)
        super().__init__(path.name, iter({info.filename for info in infos}))

    def read(self, name: str) -> bytes:
        try:
            return self._archive.read(name)  # never more than the declared size, which was checked
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise DataError(
                f"Expected to read {self.place(name)}, got: {error}.",
                remedy="The archive is damaged or encrypted: pack it again without a password.",
            ) from error


class _TarFiles(Files):
    def __init__(self, path: Path, contents: dict[str, bytes]) -> None:
        self._contents = contents
        super().__init__(path.name, iter(contents))

    def read(self, name: str) -> bytes:
        return self._contents[name]


@contextmanager
def opened_files(path: Path, limits: Limits = Limits()) -> Iterator[Files]:
    """The files of a folder, a zip or a tar (also compressed).

    Raises:
        DataError: if the archive is damaged, a member would escape its folder or is a link, or it unpacks to too much.
    """
    if path.is_dir():
        yield _FolderFiles(path, limits)
    elif zipfile.is_zipfile(path):
        with _damage(path):
            archive = zipfile.ZipFile(path)
        with archive:
            yield _ZipFiles(path, archive, limits)
    else:
        yield _read_tar(path, limits)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"Expected a folder, a whole zip or a whole tar archive at {str(path)!r}, got: {error}.",
            remedy="The file is cut off, damaged or of another kind: fetch it again.",
        ) from error


def _read_tar(path: Path, limits: Limits) -> Files:
    contents: dict[str, bytes] = {}
    with _damage(path), tarfile.open(path) as archive:
        total = 0
        for member in archive:
            if member.isdir():
                continue
            _check_member(member.name, path.name, link=not member.isfile())
            _check_size(member.size, limits.one, f"{member.name!r} in {path.name}")
            total += member.size
            _check_whole(len(contents) + 1, total, limits, path.name)
            stream = archive.extractfile(member)
            contents[member.name] = b"" if stream is None else stream.read()
    return _TarFiles(path, contents)


def _walk(root: Path) -> Iterator[str]:
    for folder, below, files in os.walk(root):
        for name in below:
            if os.path.islink(os.path.join(folder, name)):
                raise DataError(
                    f"Expected folders below {str(root)!r}, got the link {os.path.join(folder, name)!r}.",
                    remedy="Put the folder itself there; links to folders are not followed.",
                )
        for name in files:
            yield (Path(folder) / name).relative_to(root).as_posix()


def _litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts[:1] or bool(SYSTEM_FILES & set(parts[-1:]))


def _check_member(name: str, where: str, *, link: bool) -> None:
    path = PurePosixPath(name)
    escapes = path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name) is not None
    if escapes or link:
        what = "a link or device" if link else "a name that leads out of the archive's folder"
        raise DataError(
            f"Expected ordinary files in {where}, got {name!r}: {what}.",
            remedy="Do not trust this archive; fetch it from its owner or pack it again.",
        )


def _check_size(size: int, limit: int, place: str) -> None:
    if size > limit:
        raise DataError(
            f"Expected at most {limit} bytes for {place}, got {size} after unpacking.",
            remedy="Check where the archive comes from: a small file that unpacks to a huge one is an attack.",
        )


def _check_whole(count: int, total: int, limits: Limits, where: str) -> None:
    if count > limits.files or total > limits.total:
        raise DataError(
            f"Expected at most {limits.files} files and {limits.total} bytes in {where}, got {count} and {total}.",
            remedy="Check where the archive comes from, or split it.",
        )
