"""Where a record comes from: versions, machine, command, time."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from sfumato.audit.record import Provenance

PACKAGES = ("sfumato", "torch", "numpy", "scipy", "scikit-learn")


def provenance(command: str, seed: int, seconds: float) -> Provenance:
    """The facts that let somebody repeat the run. No user name, host name or path."""
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seed=seed,
        seconds=round(seconds, 2),
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        machine={
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
        },
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
