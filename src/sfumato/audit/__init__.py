"""Plan, run and record audits; statistics and epsilon bounds are pure NumPy and SciPy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.audit.structural import StructuralTest, TwoWorlds, column_shift, structural_test

__all__ = ["StructuralTest", "TwoWorlds", "column_shift", "structural_test"]


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: statistics and bounds need no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.structural"), name)
