"""What a training needs to go on after an interruption: tensors and a few numbers, written atomically."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sfumato.atomic import replacing


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

    def save(self, tensors: dict[str, torch.Tensor], numbers: dict[str, list[float]]) -> None:
        """Write, unless the last write was less than `every` seconds ago."""
        if time.monotonic() - self._last < self.every:
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
        """Delete the file once the training is done."""
        self.path.unlink(missing_ok=True)
