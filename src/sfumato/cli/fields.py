"""Fields of a frozen dataclass from text or from a table, strictly: unknown keys are refused with the nearest name."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sfumato.errors import UsageError

T = TypeVar("T")


def make(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of a dataclass from plain values.

    Args:
        kind: a dataclass whose fields are plain values (numbers, text, tuples of them).
        values: field -> value. Text is read as the field's type ("12", "0.05", "true", "flip,shift").
        where: what this is, for errors, e.g. "[recipe]".

    Raises:
        UsageError: for an unknown key (with the nearest known one), a value that is not of the field's type, or fields
            without a default that are not given (all of them at once).
    """
    return complete(kind, read(kind, values, where), where)


def complete(kind: type[T], values: Mapping[str, Any], where: str, example: str = "") -> T:
    """An instance from values of the right types; whatever is missing is named in one error.

    Args:
        kind: a dataclass.
        values: field -> value, as `read` gives them.
        where: what this is, for errors.
        example: a line that shows how the missing fields are given.

    Raises:
        UsageError: if fields without a default are not given.
    """
    missing = [name for name in required(kind) if name not in values]
    if missing:
        raise UsageError(
            f"Expected {', '.join(f'`{name}`' for name in missing)} for {where}: {_duty(missing)} no default.",
            remedy=f"For instance: {example}" if example else "Give them.",
        )
    return kind(**values)


def required(kind: type) -> list[str]:
    """The fields without a default: what only the user can say."""
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]


def _duty(missing: list[str]) -> str:
    return "it has" if len(missing) == 1 else "these have"


def read(kind: type, values: Mapping[str, Any], where: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values as the types of the dataclass's fields; fields in `without` cannot be given."""
    known = [key for key in names(kind) if key not in without]
    for key in values:
        if key not in known:
            raise unknown(key, known, where)
    hints = get_type_hints(kind)
    return {key: _read(hints[key], value, f"{where} {key}") for key, value in values.items()}


def names(kind: type) -> list[str]:
    """The fields that can be given when a value of this dataclass is made."""
    return [field.name for field in dataclasses.fields(kind) if field.init]


def unknown(key: str, known: list[str], where: str) -> UsageError:
    """The error for a key that is not known."""
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known) or 'none'}."
    return UsageError(f"Expected a known key in {where}, got {key!r}.", remedy=hint)


def shown(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain values, those that are None left out: the inverse of `make`."""
    known = names(type(value))
    fields = {key: getattr(value, key) for key in known}
    return {key: list(item) if isinstance(item, tuple) else item for key, item in fields.items() if item is not None}


def _read(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, str) and _accepts(hint, tuple) and not _is_one_number(hint, value):
        value = [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(value, str) and value.lower() == "none" and _accepts(hint, type(None)):
        return None
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        raise UsageError(f"Expected {_words(hint)} for {where}, got {value!r}.", remedy="Correct the value.") from error


def _is_one_number(hint: Any, text: str) -> bool:
    """Whether a text is a single number for a field that takes one number as well as several."""
    try:
        float(text)
    except ValueError:
        return False
    return _accepts(hint, float) or _accepts(hint, int)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _accepts(hint: Any, kind: type) -> bool:
    return any((get_origin(one) or one) is kind for one in _alternatives(hint))


def _words(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    words |= {Mapping: "a table { name = number, ... }"}
    return " or ".join(words.get(get_origin(one) or one, "values with commas between") for one in _alternatives(hint))
