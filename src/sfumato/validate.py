"""Checks at construction, all with one sentence shape: what was expected, what came."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from sfumato.errors import UsageError


def positive(name: str, value: float) -> None:
    """Refuse anything but a number above 0."""
    if not value > 0:
        raise UsageError(f"Expected `{name}` above 0, got {value!r}.", remedy=f"Give `{name}` a positive value.")


def at_least(name: str, value: float, low: float) -> None:
    """Refuse a number below `low` (NaN included)."""
    if not value >= low:
        raise UsageError(f"Expected `{name}` of at least {low}, got {value!r}.", remedy=f"Raise `{name}`.")


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high] (NaN included)."""
    if not low <= value <= high:
        raise UsageError(
            f"Expected `{name}` between {low} and {high}, got {value!r}.",
            remedy=f"Choose `{name}` in that range.",
        )


def one_of(name: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is not listed, and suggest the nearest that is."""
    known = list(choices)
    if value in known:
        return
    near = get_close_matches(str(value), [str(choice) for choice in known], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Choose one of {', '.join(map(repr, known))}."
    raise UsageError(f"Expected `{name}` to be one of {', '.join(map(str, known))}, got {value!r}.", remedy=hint)


def same_length(**lengths: int) -> None:
    """Refuse arrays whose lengths differ; pass `name=len(array)`."""
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise UsageError(f"Expected arrays of one length, got {shown}.", remedy="Pass one entry per record in each.")
