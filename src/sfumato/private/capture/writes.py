"""Writing to a parameter in the forward pass: refused, because what an example moves there would be released."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from sfumato.errors import NotPrivateError

SETS = frozenset({"__setitem__", "__set__"})


class Writes:
    """Knows the memory of the private parameters.

    Args:
        parameters: by name.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        self.homes = {_home(tensor): name for name, tensor in parameters.items() if _home(tensor)}

    def refuse(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse a call that would write to a parameter, also through `.data`, `.detach()` or a view.

        Raises:
            NotPrivateError: naming the parameter.
        """
        name = getattr(func, "__name__", "")
        if not writes_in_place(name) and "out" not in kwargs:
            return
        for target in _targets((*args[:1], kwargs.get("out"))):
            found = self.homes.get(_home(target))
            if found is not None:
                raise NotPrivateError(
                    f"Expected {found} to be left alone in the forward pass, got it changed by {name}.",
                    remedy="Do not write to parameters in `forward`: what an example moved there has no noise.",
                )


def writes_in_place(name: str) -> bool:
    """Whether a torch function of this name writes to its first argument."""
    return name in SETS or (name.endswith("_") and not name.endswith("__"))


def _targets(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _targets(value)


def _home(tensor: torch.Tensor) -> int:
    """The address of the storage; 0 where there is none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a tensor without memory of its own
        return 0
