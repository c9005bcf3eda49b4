"""Plain values as TOML text: what `tomllib` reads back as the same values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.errors import UsageError

Table = Mapping[str, Any]


def toml_text(document: Table) -> str:
    """A document of keys, tables and arrays of tables.

    Args:
        document: text, numbers, booleans, lists of them, tables, lists of tables; no None.
    """
    return "\n".join(_lines(document, ())).strip("\n") + "\n"


def _lines(table: Table, path: tuple[str, ...]) -> list[str]:
    simple = {key: value for key, value in table.items() if not _is_table(value) and not _is_tables(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in simple.items()]
    for key, value in table.items():
        here = (*path, key)
        name = ".".join(_key(part) for part in here)
        if _is_table(value):
            lines += ["", f"[{name}]", *_lines(value, here)]
        elif _is_tables(value):
            for item in value:
                lines += ["", f"[[{name}]]", *_lines(item, here)]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and _is_table(value[0])


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise UsageError(f"Expected a value that TOML can hold, got {type(value).__name__}.", remedy="Leave it out.")


def _text(text: str) -> str:
    # A JSON string is a TOML basic string, but for the one control character that JSON leaves bare.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
