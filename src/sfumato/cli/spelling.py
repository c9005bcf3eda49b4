"""How methods are spelled on a command line: `name`, `name(field=value,...)`, and `outer+inner` for defences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeVar

from sfumato.cli import fields as dataclass_fields
from sfumato.errors import UsageError
from sfumato.registry import lookup
from sfumato.training.defence import Defence

T = TypeVar("T")
Changes = Mapping[str, Mapping[str, str]]
_FORM = re.compile(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*")


class Spelled(NamedTuple):
    """A method's name and the fields that were given."""

    name: str
    fields: dict[str, str]


def words(text: str) -> list[str]:
    """The parts between commas that stand outside brackets, empty ones dropped."""
    return _split(text, ",")


def read(text: str) -> Spelled:
    """`name(field=value,...)` taken apart; values of several words are separated by `|`."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise _bad(text)
    given = {}
    for part in _split(found.group(2) or "", ","):
        key, equals, value = part.partition("=")
        if not equals:
            raise _bad(text)
        given[key.strip()] = value.strip().replace("|", ",")
    return Spelled(found.group(1), given)


def method(text: str, known: Mapping[str, type[T]], kind: str, changes: Changes | None = None) -> T:
    """The method that a text spells; unknown names and fields are refused with the nearest one.

    Args:
        text: `name` or `name(field=value,...)`.
        known: methods by name.
        kind: of method, for errors.
        changes: fields given elsewhere, by name of the method; those in the text have the last word.
    """
    spelled = read(text)
    found = lookup(dict(known), kind, spelled.name)
    given = {**(changes or {}).get(spelled.name, {}), **spelled.fields}
    values = dataclass_fields.read(found, given, f"{kind} {spelled.name}", without=("inner",))
    return dataclass_fields.complete(found, values, f"{kind} {spelled.name}", example_line(found))


def typical(kind: type) -> dict[str, Any]:
    """Fields that a defence of this kind must be given, with typical values; none for other methods."""
    if not issubclass(kind, Defence):
        return {}
    usual = {field.name: field.default for field in fields(kind)}
    return {name: value for name, value in vars(kind.example()).items() if name in usual and value != usual[name]}


def example_line(kind: type) -> str:
    """How these fields are given on a command line."""
    return " ".join(f"--set {getattr(kind, 'name', '')}.{name}={value}" for name, value in typical(kind).items())


def defence(text: str, known: Mapping[str, type[Defence]], changes: Changes | None = None) -> Defence:
    """The defence that a text spells; in `outer+inner` the first is wrapped around the second."""
    made: Defence | None = None
    for part in reversed(_split(text, "+")):
        outer = method(part, known, "defence", changes)
        made = outer if made is None else replace(outer, inner=made)
    if made is None:
        raise _bad(text)
    return made


def _split(text: str, sign: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == sign and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _bad(text: str) -> UsageError:
    return UsageError(
        f"Expected a method as name or name(field=value,...), got {text!r}.",
        remedy='For instance "mixup" or "mixup(alpha=0.4)"; quote it, because of the brackets. Several values of one '
        'field stand between bars: "memguard(hidden=16|8)".',
    )
