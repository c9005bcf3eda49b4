"""Discovery: every final method of a family is found by walking its package. Nobody edits a central list.

Other distributions add methods through the entry-point group called like the package that is walked (for instance
`sfumato.attacks.membership`), whose entries name modules to import.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType
from typing import TypeVar

from sfumato.errors import UsageError
from sfumato.validate import one_of

T = TypeVar("T")


def discover(package: ModuleType, base: type[T]) -> dict[str, type[T]]:
    """All concrete subclasses of `base` below `package`, by their class attribute `name`, sorted."""
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    homes = (package.__name__, *_plugged_in(package.__name__))
    found: dict[str, type[T]] = {}
    for method in _subclasses(base):
        if inspect.isabstract(method) or not getattr(method, "name", "") or not _lives_in(method, homes):
            continue
        name = str(getattr(method, "name"))  # noqa: B009 - T has no attribute `name` that a checker could see
        if name in found and found[name] is not method:
            raise UsageError(
                f"Expected one {base.__name__} called {name!r}, got {found[name]} and {method}.",
                remedy="Rename one of them.",
            )
        found[name] = method
    return dict(sorted(found.items()))


def _plugged_in(group: str) -> tuple[str, ...]:
    """Modules of other distributions, imported."""
    modules = []
    for entry in entry_points(group=group):
        try:
            importlib.import_module(entry.module)
        except Exception as error:
            raise UsageError(
                f"Expected the plug-in {entry.name!r} of {group} to be importable, got {error!r}.",
                remedy=f"Repair or remove the package that provides `{entry.module}`.",
            ) from error
        modules.append(entry.module)
    return tuple(modules)


def _lives_in(method: type, homes: tuple[str, ...]) -> bool:
    return any(method.__module__ == home or method.__module__.startswith(home + ".") for home in homes)


def lookup(found: dict[str, type[T]], kind: str, name: str) -> type[T]:
    """The method called `name`, or an error that suggests the nearest name."""
    one_of(kind, name, found)
    return found[name]


def _subclasses(base: type[T]) -> list[type[T]]:
    direct = base.__subclasses__()
    return direct + [child for cls in direct for child in _subclasses(cls)]
