"""Weights in a .safetensors file, read as untrusted input, with the history that sfumato wrote beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from

from sfumato.accounting.history import History
from sfumato.errors import UsageError
from sfumato.training.trained import GUARD

_LENGTH = 8  # bytes of the header's length, at the start of the file


class Weights(NamedTuple):
    """Tensors by name, the history of the training (None where the file states none), and the file's SHA-256."""

    state: dict[str, torch.Tensor]
    history: History | None
    sha256: str


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UsageError: if it cannot be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def read_weights(path: Path) -> Weights:
    """Tensors, history and digest, all of one and the same content.

    Raises:
        UsageError: if the file cannot be read, is damaged, or states a history that is none.
    """
    content = _content(path)
    try:
        state = {name: v for name, v in tensors_from(content).items() if not name.startswith(GUARD)}
        header = json.loads(content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")])
        facts = json.loads((header.get("__metadata__") or {}).get("facts", "{}"))
        history = History.from_plain(facts["history"]) if "history" in facts else None
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"Expected weights in {path.name} (.safetensors), got {why}.",
            remedy="Save `model.state_dict()` with safetensors, or use weights of `sfumato train`.",
        ) from error
    return Weights(state, history, hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            f"Expected the path of weights (.safetensors), got {str(path)!r}: {error.strerror or error}.",
            remedy="Check the path.",
        ) from error
