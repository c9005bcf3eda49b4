"""One text for one value: canonical JSON of plain values and frozen dataclasses, and its content hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sfumato.errors import UsageError


def plain(value: Any) -> Any:
    """Turn a value into JSON's own types. A dataclass carries its class name, so two methods with equal fields differ.

    An object may state its own form by a method `spec()`. Anything else is refused: a `repr` with a memory address in
    it would make a key that never matches, or worse, one that matches by accident.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):  # JSON has no NaN and no infinity
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return {"array": array_digest(value)}
    if hasattr(value, "spec") and not isinstance(value, type):
        return plain(value.spec())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **fields}
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise UsageError(
        f"Expected a value that can be written down (numbers, text, lists, frozen dataclasses), got {type(value)}.",
        remedy="Give the object a method `spec()` that returns plain values naming it completely.",
    )


def _plain_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    found = {str(key): plain(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if len(found) < len(value):
        raise UsageError(
            f"Expected keys that stay apart as text, got {sorted(map(repr, value))}.",
            remedy="Use text as keys; 1 and '1' would be written alike.",
        )
    return found


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, exact floats."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of dtype, shape and bytes of an array."""
    array = np.asarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    if array.dtype.kind in "OU":  # as a JSON list, so that no text can pass for two
        digest.update(canonical_json(array.ravel().tolist()).encode())
    else:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
