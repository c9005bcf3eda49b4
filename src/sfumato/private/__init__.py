"""Differentially private gradient descent: one plan, one pass, and a refusal wherever a guarantee would not hold."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.private.plan import Plan, calibrated
    from sfumato.private.session import Session, make

__all__ = ["Plan", "Session", "calibrated", "make"]
HOMES = {"Plan": "plan", "calibrated": "plan", "Session": "session", "make": "session"}


def __getattr__(name: str) -> Any:
    """What is used most, loaded when it is asked for."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
