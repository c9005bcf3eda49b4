"""The user's own source files that a Python file depends on: found without running them, and named by their content."""

from __future__ import annotations

import ast
import hashlib
import importlib
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

from sfumato.errors import UsageError


class SourceDigest(NamedTuple):
    """SHA-256 of one source file; `module` is its import name, and "" for the file that was asked about."""

    module: str
    sha256: str


def user_sources(path: Path) -> tuple[SourceDigest, ...]:
    """The file and every user-owned module that it imports, directly or not, sorted by module name.

    User-owned is what lies outside the standard library, the installed packages and sfumato. Import statements are
    read wherever they stand, also inside functions; nothing is executed.

    Raises:
        UsageError: if one of the files is no valid Python.
    """
    with importing_from(path.parent, ()):
        files = _closure(path)
    return tuple(
        SourceDigest(name, hashlib.sha256(file.read_bytes()).hexdigest()) for name, file in sorted(files.items())
    )


@contextmanager
def importing_from(folder: Path, modules: Sequence[str]) -> Iterator[None]:
    """Imports look in `folder` first and load `modules` afresh; afterwards `sys.path` and `sys.modules` are put back.

    Raises:
        UsageError: if a user-owned module was imported that `modules` does not list (its content would be part of the
            network without being part of its name).
    """
    path, before, bytecode = list(sys.path), dict(sys.modules), sys.dont_write_bytecode
    _forget(modules)
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
        _refuse_unlisted(sorted(_user_owned_since(before, modules)))
    finally:
        sys.path[:], sys.dont_write_bytecode = path, bytecode
        _forget([*modules, *_user_owned_since(before, modules)])
        sys.modules.update({name: before[name] for name in modules if name in before})


def _closure(path: Path) -> dict[str, Path]:
    files, pending = {"": path}, [("", path)]
    while pending:
        name, file = pending.pop()
        for module, origin in _imported_files(name, file):
            if module not in files:
                files[module] = origin
                pending.append((module, origin))
    return files


def _imported_files(name: str, file: Path) -> Iterator[tuple[str, Path]]:
    if file.suffix != ".py":
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for imported in _import_names(_parse(file), package):
        for spec in _specs(imported):
            origin = _user_file(spec.origin)
            if origin is not None:
                yield spec.name, origin


def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), file.name)
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"Expected valid Python in `{file.name}`, got: {error}.", remedy="Correct the file."
        ) from error


def _import_names(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _specs(name: str) -> Iterator[ModuleSpec]:
    """Where a module and the packages above it lie; stops at the first that is not found or not the user's."""
    parts, where = name.split("."), None
    if parts[0] in ("", "sfumato", *sys.builtin_module_names):
        return
    for depth in range(len(parts)):
        spec = _find(".".join(parts[: depth + 1]), where)
        if spec is None or (spec.origin is not None and _user_file(spec.origin) is None):
            return
        yield spec
        if spec.submodule_search_locations is None:
            return
        where = list(spec.submodule_search_locations)


def _find(name: str, where: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, where)
        if spec is not None:
            return spec
    return None


def _user_file(origin: str | None) -> Path | None:
    """The file, if it is one and lies outside the standard library and the installed packages."""
    if origin is None or not Path(origin).is_file():
        return None
    file = Path(origin).resolve()
    return None if any(file.is_relative_to(root) for root in _library_roots()) else file


def _library_roots() -> set[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [*(sysconfig.get_path(name) for name in names), *site.getsitepackages(), site.getusersitepackages()]
    return {Path(folder).resolve() for folder in folders}


def _user_owned_since(before: Mapping[str, object], modules: Iterable[str]) -> list[str]:
    new = {name: module for name, module in sys.modules.items() if name not in before and name not in modules}
    return [
        name
        for name, module in new.items()
        if name.partition(".")[0] != "sfumato" and _user_file(getattr(module, "__file__", None)) is not None
    ]


def _refuse_unlisted(names: list[str]) -> None:
    if names:
        raise UsageError(
            f"Expected the model file to import its own modules by import statements, got {', '.join(names)} "
            "imported in another way.",
            remedy="Write `import NAME` in the file, so that a change of that module is noticed.",
        )


def _forget(modules: Iterable[str]) -> None:
    for name in modules:
        sys.modules.pop(name, None)
