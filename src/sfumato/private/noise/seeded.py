"""Noise for audit models only: repeatable from a seed."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from sfumato.private.noise.key_stream import KeyStream
from sfumato.private.noise.source import Desk, NoiseSource
from sfumato.seeding import Name, derive


class SeededNoise(NoiseSource):
    """The construction of `SystemNoise` with a key that is the SHA-256 of a seed and names: the same noise every time.

    Whoever knows the seed can subtract the noise, so a model trained with it is *audit only* and is never a release.
    Streams are addressed, not counted: `at(step, name)` gives the same numbers whatever was drawn before, in however
    many calls they are drawn, and whatever the number of threads.

    Args:
        seed: a whole number.
        names: what the stream is for.
    """

    audit_only: ClassVar[bool] = True

    def __init__(self, seed: int, *names: Name) -> None:
        super().__init__(_keys(seed, names))
        self._seed, self._names = int(seed), names

    def at(self, *names: Name) -> SeededNoise:
        found, desk = SeededNoise(self._seed, *self._names, *names), self._here()
        found._desk = Desk(found._desk.keys, lock=desk.lock, work=desk.work)  # one lock for the buffers they share
        return found

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "seeded",
            "generator": "AES-256-CTR, keyed by a seed",
            "audit_only": True,
            "seed": self._seed,
            "names": list(self._names),
        }

    def _after_fork(self, desk: Desk) -> Desk:
        return Desk(desk.keys, drawn=dict(desk.drawn))  # the child goes on with the same numbers as its parent


def _keys(seed: int, names: tuple[Name, ...]) -> KeyStream:
    parts = [derive(seed, "noise", part, *names) for part in range(5)]  # 315 bits go in, 256 come out
    return KeyStream(hashlib.sha256(repr(parts).encode()).digest())
