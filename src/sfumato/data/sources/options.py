"""Options of a source as text on a command line, turned into the values that its fields hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sfumato.data.sources.base import Source
from sfumato.errors import UsageError


def from_text(kind: type[Source], option: str, text: str) -> Any:
    """The value of a field from text: "a,b" for several names, "64x64" for a size, "true" or "false", whole numbers,
    "job=clerk|nurse,town=York" for lists by column; other fields take the text itself.

    Args:
        kind: the source.
        option: name of one of its fields.
        text: what the user typed.

    Raises:
        UsageError: if the text does not have the form that the field needs.
    """
    declared = next(str(field.type) for field in dataclasses.fields(kind) if field.name == option)
    read, form = READERS.get(declared, (str, "text"))
    try:
        return read(text)
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"Expected `{option}` of {kind.name} as {form}, got {text!r}.", remedy="Correct the option."
        ) from error


def _truth(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


def _number(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _size(text: str) -> tuple[int, int]:
    height, width = text.lower().replace(",", "x").split("x")
    return int(height), int(width)


def _lists(text: str) -> dict[str, tuple[str, ...]]:
    pairs = [part.split("=", 1) for part in text.split(",")]
    return {column.strip(): tuple(words.split("|")) for column, words in pairs}


# Annotation of a field -> how to read it, and the form in words.
READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "bool": (_truth, "true or false"),
    "int | None": (_number, "a whole number or none"),
    "tuple[str, ...]": (_words, "names with commas between"),
    "tuple[int, int] | None": (_size, "HEIGHTxWIDTH"),
    "Mapping[str, tuple[str, ...]]": (_lists, "COLUMN=word|word, several with commas between"),
}
