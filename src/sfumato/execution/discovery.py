"""Executors by name."""

from __future__ import annotations

from typing import Any

from sfumato.execution import executors
from sfumato.execution.executors.base import Executor
from sfumato.registry import discover, lookup

AUTO = "auto"


def executors_by_name() -> dict[str, type[Executor]]:
    """All executors, by name."""
    return discover(executors, Executor)


def executor_named(name: str, **fields: Any) -> Executor:
    """The executor called `name`, with its defaults but for `fields`."""
    return lookup(executors_by_name(), "executor", name)(**fields)
