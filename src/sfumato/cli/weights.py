"""Weights that somebody else saved, read as untrusted input: tensors by name, and never a pickle that runs code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sfumato.data.formats.files import existing_file
from sfumato.errors import UsageError

KEYS = ("state_dict", "model_state_dict", "model")  # where checkpoints of usual training loops keep them


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Name -> tensor, from a .safetensors file, or a .pt or .pth file that holds tensors only.

    Raises:
        UsageError: if the file is of another kind, damaged, or holds anything but tensors.
    """
    path = existing_file(str(path), what="weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"Expected weights in {path.name} (.safetensors, or .pt with tensors only), got {_first_line(error)}.",
            remedy="Save `model.state_dict()` with safetensors.",
        ) from error
    for key in KEYS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UsageError(
            f"Expected tensors by name in {path.name}, got {type(found).__name__}.",
            remedy="Save `model.state_dict()`.",
        )
    return {str(key): value for key, value in found.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
