"""Choices that a resumed run must repeat (kernels, executors), kept in the store by what they depend on."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.atomic import write_atomic
from sfumato.canonical import content_hash
from sfumato.execution.locks import locked


def cores() -> int:
    """Processors that this process may use (they may be hyper-threads)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def machine() -> dict[str, Any]:
    """What a timing depends on, as plain values: the processor, how many of them, and torch's version."""
    return {"processor": _processor(), "cores": cores(), "torch": torch.__version__}


@dataclass(frozen=True)
class Choices:
    """A file of choices: kind -> key -> plain value. A damaged file counts as empty: every choice can be made again.

    Args:
        path: of the JSON file.
    """

    path: Path

    def get(self, kind: str, of: Any) -> Any | None:
        """The choice of this kind made for `of` (plain values) on this machine, or None."""
        return self._read().get(kind, {}).get(_key(of))

    def put(self, kind: str, of: Any, value: Any) -> None:
        """Keep a choice; one that is already there stays, so that all runs agree."""
        with locked(self.path.with_suffix(".lock"), wait=True):
            table = self._read()
            table.setdefault(kind, {}).setdefault(_key(of), value)
            write_atomic(self.path, json.dumps(table, indent=1, sort_keys=True).encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            table = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) and all(isinstance(v, dict) for v in table.values()) else {}


def _key(of: Any) -> str:
    return content_hash({"machine": machine(), "of": of})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
