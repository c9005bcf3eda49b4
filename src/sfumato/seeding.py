"""One root seed, many named and independent random streams.

A stream is named by what it is for (`stream(seed, "order", epoch)`), never by how much was drawn before it. So every
executor sees the same draws, and a training that resumes at epoch 7 needs no saved generator state.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from sfumato.errors import UsageError

Name = str | int


def derive(seed: int, *names: Name) -> int:
    """A 63-bit seed for the stream called `names` under the root `seed` (SHA-256, so names do not collide).

    Raises:
        UsageError: if the seed is no whole number, or a name is neither text nor a whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise UsageError(f"Expected a whole number as seed, got {seed!r}.", remedy="Use 0, 1, 2, ...")
    text = "\x1f".join([str(int(seed)), *map(_spelled, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _spelled(name: Name) -> str:
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool):
        return f"int:{int(name)}"
    if isinstance(name, str):  # the separator is doubled inside a name, so that one name cannot pass for two
        return "str:" + str(name).replace("\x1f", "\x1f\x1f")
    raise UsageError(f"Expected text or a whole number in the name of a stream, got {name!r}.")


def stream(seed: int, *names: Name) -> np.random.Generator:
    """A NumPy generator (Philox) for the named stream."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *names)))


def torch_stream(seed: int, *names: Name) -> torch.Generator:
    """A torch CPU generator for the named stream; draws are made on the CPU whatever the device of the model."""
    return torch.Generator().manual_seed(derive(seed, *names))
