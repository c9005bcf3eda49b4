"""What code a result depends on, by content: a changed loop, network or defence never reuses a stored result."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import UsageError
from sfumato.models.user_source import user_sources

COVERED = (
    "sfumato.accounting",
    "sfumato.private",
    "sfumato.sde",
    "sfumato.models",
    "sfumato.training",
    "sfumato.defences",
    "sfumato.targets.asking",
    "sfumato.targets.averages",
    "sfumato.targets.gradients",
    "sfumato.targets.answers",
    "sfumato.targets.queries",
    "sfumato.seeding",
    "sfumato.data.records",
    "sfumato.data.view",
)


@functools.cache
def code_digest() -> str:
    """SHA-256 over the source files of `COVERED`, names and contents; read once per process."""
    return source_digest(_files(COVERED))


def source_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over named files, in the order of their names."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\x1f{hashlib.sha256(path.read_bytes()).hexdigest()}\x1e".encode())
    return digest.hexdigest()


def foreign_sources(value: Any) -> dict[str, str]:
    """SHA-256 of the source of every class in `value` that is no part of sfumato (a user's own defence, a plug-in).

    Args:
        value: a recipe; its fields are searched as far as dataclasses, mappings and sequences go.

    Returns:
        "module > " and the name of each user-owned module that it imports (nothing for its own file) -> digest.

    Raises:
        UsageError: if such a class has no source file.
    """
    found: dict[str, str] = {}
    ours = {"sfumato", *sys.stdlib_module_names}
    for module in sorted({m for m in _modules_in(value) if m.partition(".")[0] not in ours}):
        path = getattr(sys.modules.get(module), "__file__", None)
        if path is None or not Path(path).is_file():
            raise UsageError(
                f"Expected a class from a Python file, got one of `{module}`, whose source cannot be found.",
                remedy="Put it into a .py file, so that a changed class never reuses a stored result.",
            )
        found |= {f"{module} > {source.module}": source.sha256 for source in user_sources(Path(path).resolve())}
    return found


def _modules_in(value: Any) -> Iterable[str]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (cls.__module__ for cls in type(value).__mro__)
        for field in dataclasses.fields(value):
            yield from _modules_in(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _modules_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _modules_in(item)


def _files(names: Iterable[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name in names:
        module = importlib.import_module(name)
        folders = [Path(folder) for folder in getattr(module, "__path__", [])]
        if not folders:
            files[name] = Path(str(module.__file__))
        for folder in folders:
            files |= {f"{name}/{path.relative_to(folder)}": path for path in folder.rglob("*.py")}
    return files
