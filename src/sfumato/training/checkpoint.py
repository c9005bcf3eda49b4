"""What a training needs to go on after an interruption: tensors and a few numbers, written atomically."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sfumato.atomic import replacing
from sfumato.canonical import content_hash

PART = ".part-"  # between the name of a training's file and that of a part of it


class Saved(NamedTuple):
    """A checkpoint that was read back."""

    tensors: dict[str, torch.Tensor]
    numbers: dict[str, list[float]]


@dataclass
class Checkpoint:
    """A checkpoint file of one training.

    Args:
        path: the file; it may not exist yet.
        key: content hash of what is trained; a file with another key is ignored.
        every: least seconds between two writes.
    """

    path: Path
    key: str
    every: float = 30.0
    _last: float = field(default_factory=time.monotonic)

    def part(self, name: str) -> Checkpoint:
        """For a part of the training: another file beside this one, removed with it."""
        digest = content_hash(name)[:16]
        path = self.path.with_name(f"{self.path.stem}{PART}{digest}{self.path.suffix}")
        return Checkpoint(path, f"{self.key} {name}", self.every)

    def save(
        self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, list[float]], *, now: bool = False
    ) -> None:
        """Write, unless the last write was less than `every` seconds ago; `now` writes in any case."""
        if not now and time.monotonic() - self._last < self.every:
            return
        unshared = {name: value.detach().clone() for name, value in tensors.items()}
        with replacing(self.path) as temporary:
            save_file(unshared, temporary, metadata={"key": self.key, "numbers": json.dumps(numbers)})
        self._last = time.monotonic()

    def load(self) -> Saved | None:
        """The checkpoint, or None if there is none for this key (a damaged file counts as none)."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return None
                return Saved({name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["numbers"]))  # noqa: SIM118
        except (SafetensorError, OSError):
            return None

    def remove(self) -> None:
        """Delete the file, and those of its parts, once the training is done."""
        for path in self.path.parent.glob(f"{glob.escape(self.path.stem + PART)}*{self.path.suffix}"):
            path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
