"""Normals for the layers of a network: many and fast. Not for noise that a guarantee rests on, whose key is secret.

Box and Muller's transform (1958) of AES-256 in counter mode, keyed by the seed: the generator costs a tenth of torch's
Mersenne Twister, and torch computes the transform on all of its threads.
"""

from __future__ import annotations

import hashlib
import math

import torch

from sfumato.private.noise.key_stream import Domain, KeyStream
from sfumato.seeding import Name, derive

BLOCK = 1024  # normals that are made together; a block's numbers depend on its place alone
HALF = BLOCK // 2


def normals(seed: int, *names: Name, size: int, dtype: torch.dtype) -> torch.Tensor:
    """[size], standard normal, of the stream called `names` under `seed`; a longer draw begins like a shorter one.

    At most 6.6 in size, since the radius is made of 31 random bits.
    """
    words = torch.empty(max(1, math.ceil(size / BLOCK)), 2, HALF, dtype=torch.int32)
    key = hashlib.sha256(f"normals {derive(seed, *names)}".encode()).digest()
    KeyStream(key).write(words.view(-1).numpy().data.cast("B"), Domain.WORDS, 0)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    return box_muller(words, kind).view(-1)[:size].to(dtype)


def box_muller(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """int32 [blocks, 2, k], uniform and independent, to standard normals of that shape.

    The first row of a block gives the radius, by its size alone, so that no logarithm of 0 is taken; the second the
    angle.
    """
    radius = words[:, 0].to(dtype).abs_().add_(1).mul_(2.0**-31).clamp_(max=1.0).log_().mul_(-2).sqrt_()
    angle = words[:, 1].to(dtype).mul_(math.pi * 2.0**-31)
    out = torch.empty(words.shape, dtype=dtype)
    torch.mul(radius, angle.cos(), out=out[:, 0])
    torch.mul(radius, angle.sin_(), out=out[:, 1])
    return out
