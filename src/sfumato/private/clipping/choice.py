"""Clipping methods by name, from one bound."""

from __future__ import annotations

import importlib
from dataclasses import fields
from functools import cache

from sfumato.private.clipping.base import Clipping
from sfumato.registry import discover, lookup


@cache
def clippings() -> dict[str, type[Clipping]]:
    """All clipping methods by name."""
    return discover(importlib.import_module("sfumato.private.clipping"), Clipping)


def clipping_named(name: str, max_grad_norm: float) -> Clipping:
    """The method called `name` with this bound (the first one, where it adapts).

    Raises:
        UsageError: if there is none of that name.
    """
    kind = lookup(clippings(), "clipping", name)
    bound = next(field.name for field in fields(kind) if field.name in ("max_grad_norm", "initial", "max_grad_norms"))
    return kind(**{bound: max_grad_norm})
