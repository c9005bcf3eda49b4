"""Noise for a release: AES-256 keyed by the operating system."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from sfumato.private.noise.key_stream import KEY_BYTES, KeyStream
from sfumato.private.noise.source import Desk, NoiseSource
from sfumato.seeding import Name


class SystemNoise(NoiseSource):
    """Noise that nobody can repeat: AES-256 in counter mode, keyed by `os.urandom` when the source is made.

    The key lives in this object's memory and nowhere else. The object refuses to be copied or pickled, and a forked
    child draws a key of its own, so a crash, a resumed run or a worker goes on with fresh noise.

    What it does not do: normals come as float32 (or float64) numbers, and the sum they are added to is one as well.
    Which of these numbers can occur depends on the sum, and an attacker who sees every bit of the result may use that
    (Mironov 2012; Jin et al., arXiv 2112.05307). The tails end at 6.66 standard deviations in float32. Where this
    matters, use `DiscreteGaussian`, which is exact on a grid. A snapshot of a virtual machine, restored twice, repeats
    the key: make the source after the restore.
    """

    audit_only: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(_fresh_keys())

    def at(self, *names: Name) -> SystemNoise:
        return self

    def describe(self) -> dict[str, Any]:
        return {"kind": "system", "generator": "AES-256-CTR, keyed by the operating system", "audit_only": False}

    def _after_fork(self, desk: Desk) -> Desk:
        return Desk(_fresh_keys())  # the fork copied the parent's key, and its noise must not be drawn again


def _fresh_keys() -> KeyStream:
    return KeyStream(os.urandom(KEY_BYTES))
