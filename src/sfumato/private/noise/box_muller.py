"""Standard normals from random words (Box and Muller, 1958), in blocks, with buffers that stay in cache.

A pair of words (k, a) gives radius sqrt(-2 log u) and angle. u = (k + 1/2) / 2^31 with k of 31 bits is never 0 and
never 1, so a normal is never infinite and no radius is exactly zero. In float32 the radius reaches sqrt(64 log 2) =
6.66 standard deviations and no further: a true pair lies outside with probability 2^-32. In float64 it is 9.42 (2^-64).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sfumato.types import Floats, Ints

PAIRS = 512  # a block holds as many cosines, then as many sines; part of the definition of a seeded stream
BLOCK = 2 * PAIRS
BLOCKS_PER_PASS = 64


class Precision(NamedTuple):
    """Constants of one floating-point format; `bits` is the width of a random word."""

    real: Any
    word: str
    bits: int
    mantissa: int

    @property
    def block_bytes(self) -> int:
        """Bytes of key stream that one block of normals takes."""
        return BLOCK * self.bits // 8


FLOAT32 = Precision(np.float32, "<i4", 32, 24)
FLOAT64 = Precision(np.float64, "<i8", 64, 53)


@dataclass(frozen=True, eq=False)
class Workspace:
    """Buffers for one pass; made once and used again, so that no pass pays for fresh memory pages."""

    precision: Precision
    words: Ints
    counts: Ints
    radius: Floats
    angle: Floats
    other: Floats
    normals: Floats

    @classmethod
    def of(cls, precision: Precision) -> Workspace:
        """Buffers for at most `BLOCKS_PER_PASS` blocks."""
        half, whole = (BLOCKS_PER_PASS, PAIRS), (BLOCKS_PER_PASS, 2, PAIRS)
        return cls(
            precision,
            words=np.empty(whole, precision.word),
            counts=np.empty(half, precision.word),
            radius=np.empty(half, precision.real),
            angle=np.empty(half, precision.real),
            other=np.empty(half, precision.real),
            normals=np.empty(whole, precision.real),
        )

    def bytes_of(self, blocks: int) -> memoryview:
        """Where the key stream of the first `blocks` blocks goes."""
        return self.words[:blocks].data.cast("B")


def normals(work: Workspace, blocks: int, out: Floats) -> None:
    """Turn the words of the first `blocks` blocks into normals, in place of `out` [blocks, 2, PAIRS]."""
    kind = work.precision
    words, radius, angle, other = (b[:blocks] for b in (work.words, work.radius, work.angle, work.other))
    counts = np.bitwise_and(words[:, 0], 2 ** (kind.bits - 1) - 1, out=work.counts[:blocks])
    np.copyto(radius, counts, casting="unsafe")
    radius += kind.real(0.5)
    radius *= kind.real(2.0 ** (1 - kind.bits) * (1 - 2.0**-kind.mantissa))  # the second factor keeps u below 1
    np.log(radius, out=radius)
    radius *= kind.real(-2)
    np.sqrt(radius, out=radius)
    np.copyto(angle, words[:, 1], casting="unsafe")
    angle *= kind.real(2 * np.pi * 2.0**-kind.bits)
    np.cos(angle, out=other)
    np.sin(angle, out=angle)
    np.multiply(radius, other, out=out[:, 0])
    np.multiply(radius, angle, out=out[:, 1])
