"""The user's own network, from a Python file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import nn

from sfumato.errors import SfumatoError, StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.base import ModelFamily
from sfumato.models.shape import flat_features, outputs_checked
from sfumato.models.user_source import SourceDigest, importing_from, user_sources


@dataclass(frozen=True, kw_only=True)
class FileModel(ModelFamily):
    """A network made by a function in the user's own Python file. The file is run: use only files you trust.

    The value is pinned to the text of the file, and of the user's own modules that it imports, as they are when the
    value is made: `build` refuses if they have changed since, so that no network is stored under another one's name.

    Args:
        path: of the Python file; not part of the network's name.
        function: called as `function(shape, outputs)`, returns an `nn.Module`; see `ModelFamily.build`.

    Attributes:
        sources: SHA-256 of the file and of each user-owned module that it imports.

    Raises:
        UsageError: if there is no such file or it is no valid Python.
    """

    name: ClassVar[str] = "user-file"

    path: str = field(default="", repr=False)
    function: str = "make"
    sources: tuple[SourceDigest, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.path or not Path(self.path).is_file():
            raise UsageError(
                f"Expected the path of a Python file with a function `{self.function}`, got {self.path!r}.",
                remedy="Give the path of a file that exists.",
            )
        object.__setattr__(self, "sources", user_sources(Path(self.path).resolve()))

    def spec(self) -> dict[str, Any]:
        """What names this network: the function and the content of the sources, never where they lie."""
        return {"class": f"{type(self).__module__}.FileModel", "function": self.function, "sources": dict(self.sources)}

    def build(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        flat_features(self.name, shape)
        outputs_checked(outputs)
        file = Path(self.path).resolve()
        if not file.is_file() or user_sources(file) != self.sources:
            raise StoreMismatch(
                f"Expected `{file.name}` and the modules it imports as they were when the run was set up, got others.",
                remedy="Start the run again; models of the unchanged parts are reused.",
            )
        own_name = f"sfumato_user_file_{dict(self.sources)['']}"
        imported = [source.module for source in self.sources if source.module]
        with importing_from(file.parent, [own_name, *imported]):
            make = _function(_load(file, own_name), self.function, file.name)
            model = _called(f"`{self.function}` in `{file.name}`", lambda: make(shape, outputs))
        return _checked(model, self.function, shape, outputs)


def _load(file: Path, own_name: str) -> ModuleType:
    """The file as a module under a name of its own. Its import may not change the random state of the build."""
    module = ModuleType(own_name)
    module.__file__ = str(file)
    sys.modules[own_name] = module
    code = compile(file.read_bytes(), str(file), "exec")
    with torch.random.fork_rng(devices=[]):
        _called(f"`{file.name}`", lambda: exec(code, module.__dict__))
    return module


def _called(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SfumatoError:
        raise
    except Exception as error:
        raise UsageError(
            f"Expected {what} to run, got {type(error).__name__}: {error}.",
            remedy="Run it by itself to see where it fails.",
        ) from error


def _function(module: ModuleType, name: str, file: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if callable(found):
        return found
    raise UsageError(
        f"Expected a function `{name}` in `{file}`, got none.",
        remedy=f"Define `def {name}(shape, outputs)` there, or name the function that makes the network.",
    )


def _checked(model: object, function: str, shape: tuple[int, ...], outputs: int) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise UnsupportedModel(
            f"Expected `{function}` to return an nn.Module, got {type(model).__name__}.",
            remedy=f"Return the network from `{function}`.",
        )
    got = _probed(model, function, shape)
    if got != (2, outputs):
        raise UnsupportedModel(
            f"Expected logits of shape (2, {outputs}) for two records of shape {tuple(shape)}, got {got}.",
            remedy=f"Let `{function}(shape, outputs)` end in a layer with `outputs` values per record.",
        )
    return model


def _probed(model: nn.Module, function: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        answer = _called(f"the network of `{function}`", lambda: model(torch.zeros(2, *shape)))
    model.train(training)
    return tuple(getattr(answer, "shape", ()))
