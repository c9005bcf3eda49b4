"""Mechanisms and accountants by name, found by discovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato import registry
from sfumato.accounting import accountants as accountants_package
from sfumato.accounting import mechanisms as mechanisms_package
from sfumato.accounting.accountants.base import Accountant
from sfumato.accounting.mechanisms.base import Mechanism


def mechanisms() -> dict[str, type[Mechanism]]:
    """Every mechanism by its kind."""
    return registry.discover(mechanisms_package, Mechanism)


def accountants() -> dict[str, type[Accountant]]:
    """Every accountant by its name."""
    return registry.discover(accountants_package, Accountant)


def mechanism(plain: Mapping[str, Any]) -> Mechanism:
    """The mechanism that `Mechanism.plain` wrote; entries beside its fields are ignored.

    Raises:
        UsageError: if its kind is unknown or a field is not usable.
    """
    kind = str(plain.get("kind", "no kind"))
    return registry.lookup(mechanisms(), "kind of mechanism", kind).from_plain(plain)
