"""Integrators by name."""

from __future__ import annotations

import importlib

from sfumato.registry import discover, lookup
from sfumato.sde.integrators.base import Integrator


def integrators() -> dict[str, type[Integrator]]:
    """All integrators by name."""
    return discover(importlib.import_module("sfumato.sde.integrators"), Integrator)


def integrator_named(name: str) -> Integrator:
    """The integrator called `name`, or an error that suggests the nearest name."""
    return lookup(integrators(), "integrator", name)()
