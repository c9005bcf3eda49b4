"""Diffusion fields by name."""

from __future__ import annotations

import importlib

from sfumato.registry import discover, lookup
from sfumato.sde.diffusions.base import DiffusionField


def diffusions() -> dict[str, type[DiffusionField]]:
    """All diffusion fields by name."""
    return discover(importlib.import_module("sfumato.sde.diffusions"), DiffusionField)


def diffusion_named(name: str, sigma: float) -> DiffusionField:
    """The field called `name` with this strength, or an error that suggests the nearest name."""
    return lookup(diffusions(), "diffusion", name)(sigma=sigma)
