"""The user's own training function: what names it, and how it is loaded from a file."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.errors import StoreMismatch, UsageError
from sfumato.models.user_source import SourceDigest, importing_from, user_sources


def function_spec(function: Callable[..., Any]) -> dict[str, Any]:
    """Plain values that name a function completely: its qualified name, its sources by content, its bound arguments.

    Raises:
        UsageError: if something the function depends on cannot be seen (a closure, a function typed at a prompt).
    """
    if isinstance(function, functools.partial):
        bound = {"args": list(function.args), "keywords": dict(function.keywords)}
        return {"function": function_spec(function.func), "bound": bound}
    if hasattr(function, "spec"):
        return function.spec()  # type: ignore[attr-defined]
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = inspect.unwrap(function)
    if getattr(code, "__closure__", None):
        raise UsageError(
            f"Expected a training function without variables captured from around it, got `{name}`.",
            remedy="Pass them with functools.partial as plain values, so that a changed value is noticed.",
        )
    try:
        path = Path(inspect.getsourcefile(code) or "")
    except TypeError:
        path = Path()
    if not path.is_file():
        raise UsageError(
            f"Expected a training function from a file, got `{name}` whose source cannot be found.",
            remedy="Put it into a .py file.",
        )
    return {"function": name, "sources": [list(source) for source in user_sources(path.resolve())]}


@dataclass(frozen=True)
class FileFunction:
    """A function in a user's Python file, loaded afresh in whichever process calls it.

    The value is pinned to the text of the file and of the user's own modules that it imports, as they are when the
    value is made; a call refuses if they have changed since, so that no result is stored under another one's name.

    Args:
        path: of the Python file, which is run: use only files you trust.
        function: its name there.

    Attributes:
        sources: SHA-256 of the file and of each user-owned module that it imports.
    """

    path: str
    function: str
    sources: tuple[SourceDigest, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise UsageError(f"Expected a Python file, got {self.path!r}.", remedy="Give the path of an existing file.")
        object.__setattr__(self, "sources", user_sources(Path(self.path).resolve()))

    def spec(self) -> dict[str, Any]:
        """Name and sources by content, never the place where they lie."""
        return {"function": self.function, "sources": [list(source) for source in self.sources]}

    def __call__(self, *args: Any) -> Any:
        """Load the file and call the function."""
        file = Path(self.path).resolve()
        if not file.is_file() or user_sources(file) != self.sources:
            raise StoreMismatch(
                f"Expected `{file.name}` and the modules it imports as they were when the run was set up, got others.",
                remedy="Start the run again.",
            )
        names = [source.module for source in self.sources if source.module]
        namespace: dict[str, Any] = {"__name__": f"sfumato_user_{file.stem}", "__file__": str(file)}
        with importing_from(file.parent, names):
            exec(compile(file.read_bytes(), str(file), "exec"), namespace)
            function = namespace.get(self.function)
            if not callable(function):
                raise UsageError(
                    f"Expected a function `{self.function}` in `{file.name}`, got none.",
                    remedy=f"Define `def {self.function}(x, y, seed)` there.",
                )
            return function(*args)
