"""One root seed, many named and independent random streams.

A stream is named by what it is for (`stream(seed, "order", epoch)`), never by how much was drawn before it. So every
executor sees the same draws, and a training that resumes at epoch 7 needs no saved generator state.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

Name = str | int


def derive(seed: int, *names: Name) -> int:
    """A 63-bit seed for the stream called `names` under the root `seed` (SHA-256, so names do not collide)."""
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: Name) -> np.random.Generator:
    """A NumPy generator (Philox) for the named stream."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *names)))


def torch_stream(seed: int, *names: Name) -> torch.Generator:
    """A torch CPU generator for the named stream; draws are made on the CPU whatever the device of the model."""
    return torch.Generator().manual_seed(derive(seed, *names))
