"""How the command was called, for the record: repeatable, without the places where things lie on this machine."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_FOLDERS = re.compile(r"(?<![\w.~/])(?:/(?:[^/:=,]+/)+|/(?=[^/]+$)|[A-Za-z]:\\(?:[^\\]+\\)*)")
_LOCAL = ("--store", "--display")


@dataclass(frozen=True)
class Invocation:
    """The words after `sfumato`."""

    words: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What repeats the run, from a folder that holds the files named: absolute folders are left out."""
        return shlex.join(["sfumato", *(without_folders(word) for word in _portable(self.words))])


def without_folders(word: str) -> str:
    """The word with absolute folders cut off the names of files: they say who ran it, and nothing about the run."""
    return _FOLDERS.sub("", word)


def _portable(words: tuple[str, ...]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if not skip and word.partition("=")[0] not in _LOCAL:
            kept.append(word)
        skip = word in _LOCAL
    return kept
