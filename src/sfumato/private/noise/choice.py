"""Kinds of noise by name."""

from __future__ import annotations

import importlib
from functools import cache

from sfumato.private.noise.kind import NoiseKind
from sfumato.registry import discover, lookup


@cache
def noise_kinds() -> dict[str, type[NoiseKind]]:
    """All kinds of noise by name."""
    return discover(importlib.import_module("sfumato.private.noise"), NoiseKind)


def noise_named(name: str) -> NoiseKind:
    """The kind called `name`, with its usual settings.

    Raises:
        UsageError: if there is none of that name.
    """
    return lookup(noise_kinds(), "noise", name)()
