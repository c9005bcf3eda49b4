"""Pseudorandom bytes from AES-256 in counter mode (NIST SP 800-38A), addressed by position.

The counter block is 4 bytes of domain and 12 bytes of position, so that normals, uniforms and integers never share a
block, and any stretch of any domain can be produced without the ones before it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NoReturn

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sfumato.errors import NotPrivateError

BLOCK_BYTES = 16
KEY_BYTES = 32
ZEROS = memoryview(bytes(1 << 18))  # what is encrypted; the ciphertext of zeros is the key stream


class Domain(IntEnum):
    """What a stretch of the key stream is used for."""

    NORMAL_FLOAT32 = 1
    NORMAL_FLOAT64 = 2
    WORDS = 3


class KeyStream:
    """The key stream of one key. It cannot be copied, pickled or printed: who has the key can subtract the noise."""

    __slots__ = ("__key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise NotPrivateError(f"Expected a key of {KEY_BYTES} bytes, got {len(key)}.", remedy="Use os.urandom(32).")
        self.__key = bytes(key)

    def write(self, buffer: memoryview, domain: Domain, block: int) -> None:
        """Fill `buffer` (bytes) with the stream of `domain` from its 16-byte block number `block` on."""
        counter = int(domain).to_bytes(4, "big") + block.to_bytes(BLOCK_BYTES - 4, "big")
        cipher = Cipher(algorithms.AES(self.__key), modes.CTR(counter)).encryptor()
        for start in range(0, buffer.nbytes, ZEROS.nbytes):
            piece = buffer[start : start + ZEROS.nbytes]
            cipher.update_into(ZEROS[: piece.nbytes], piece)

    def __repr__(self) -> str:
        return "KeyStream(key not shown)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_copy(self)

    def __copy__(self) -> NoReturn:
        refuse_copy(self)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        refuse_copy(self)


def refuse_copy(holder: object) -> NoReturn:
    """Refuse to copy or to write what holds a key."""
    raise NotPrivateError(
        f"Expected {type(holder).__name__} to stay where it was made, got a request to copy or to pickle it: its key "
        "would be written down, or the same noise would be drawn twice, and either voids the guarantee.",
        remedy="Make a new source in the other process, or after loading; a run goes on with fresh noise.",
    )
