"""Where randomness comes from: the contract of every source, and the common path of all of them.

The choice of the records of a step is as critical as the noise that is added to their sum, so samplers draw from the
same sources.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch

from sfumato.errors import UsageError
from sfumato.private.noise.box_muller import BLOCK, BLOCKS_PER_PASS, FLOAT32, FLOAT64, Workspace, normals
from sfumato.private.noise.key_stream import BLOCK_BYTES, Domain, KeyStream, refuse_copy
from sfumato.seeding import Name
from sfumato.types import Floats, Ints
from sfumato.validate import at_least

DOMAINS = {torch.float32: (FLOAT32, Domain.NORMAL_FLOAT32), torch.float64: (FLOAT64, Domain.NORMAL_FLOAT64)}
Receive = Callable[[Floats, Floats], object]  # a stretch of the tensor, and the normals for it in a scratch buffer


@dataclass(frozen=True, eq=False, repr=False)
class Desk:
    """What one process draws with. Replaced as a whole after a fork, so that no thread ever sees half of a change.

    `drawn` counts normals, or 16-byte blocks of words; `lock` guards it and the buffers in `work`.
    """

    keys: KeyStream
    process: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    drawn: dict[Domain, int] = field(default_factory=lambda: dict.fromkeys(Domain, 0))
    work: dict[Domain, Workspace] = field(default_factory=dict)


class NoiseSource(ABC):
    """A stream of independent standard normals, uniforms and integers.

    All draws are made on the CPU, on one thread. Several threads may use one source; no number is handed out twice.
    """

    audit_only: ClassVar[bool]

    def __init__(self, keys: KeyStream) -> None:
        self._desk = Desk(keys)

    @abstractmethod
    def at(self, *names: Name) -> NoiseSource:
        """The source for one address, such as (step, parameter). Different addresses give independent streams.

        A seeded source gives the same stream for the same address, whatever was drawn before; the system's source
        has no addresses, returns itself, and never repeats anything.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain facts for the record: kind, generator, whether audit only. Never a key."""

    @abstractmethod
    def _after_fork(self, desk: Desk) -> Desk:
        """What a forked child draws with in place of its parent's `desk`, whose lock may never be released."""

    def fill(self, out: torch.Tensor) -> torch.Tensor:
        """Fill a contiguous float32 or float64 tensor in place with independent standard normals, and return it.

        A tensor on another device is filled by a draw on the CPU and a copy.

        Raises:
            UsageError: for any other dtype (noise is drawn in float32 or better) or memory layout.
        """
        self._draw(self.flat(out), np.copyto)
        return out

    def add_(self, out: torch.Tensor, std: float) -> torch.Tensor:
        """Add `std` times what `fill` would have given to `out`, in place and in one pass, and return it.

        Raises:
            UsageError: as `fill`, and for a negative or non-finite `std`.
        """
        finite_std(std)
        scale = float(std)
        self._draw(self.flat(out), lambda here, values: np.add(here, np.multiply(values, scale, out=values), out=here))
        return out

    def words(self, n: int) -> Ints:
        """uint64 [n]: independent uniform 64-bit words."""
        at_least("n", n, 0)
        found = np.empty(n, dtype="<u8")
        blocks = -(-found.nbytes // BLOCK_BYTES)
        desk = self._here()
        with desk.lock:
            start = desk.drawn[Domain.WORDS]
            desk.drawn[Domain.WORDS] = start + blocks
        if n:
            desk.keys.write(found.data.cast("B"), Domain.WORDS, start)
        return found

    def uniform(self, n: int) -> Floats:
        """float64 [n], independent and uniform on the multiples of 2^-53 in [0, 1)."""
        return (self.words(n) >> np.uint64(11)) * 2.0**-53

    def integers(self, high: int, n: int) -> Ints:
        """int64 [n], independent and exactly uniform on 0 .. high-1 (rejection, so without bias).

        Raises:
            UsageError: if `high` is not between 1 and 2^63.
        """
        if not 1 <= high <= 2**63:
            raise UsageError(f"Expected `high` between 1 and 2^63, got {high!r}.", remedy="Draw several integers.")
        limit = 2**64 - 2**64 % high  # words from here on would favour the small remainders
        words = self.words(n)
        while limit < 2**64 and (biased := words >= np.uint64(limit)).any():
            words[biased] = self.words(int(biased.sum()))
        return (words % np.uint64(high)).astype(np.int64)

    @staticmethod
    def flat(out: torch.Tensor) -> torch.Tensor:
        """`out` as one row that shares its memory; refuses what cannot receive noise."""
        if out.dtype not in DOMAINS:
            raise UsageError(
                f"Expected a float32 or float64 tensor to receive noise, got {out.dtype}.",
                remedy="Keep clipped sums and noise in float32; convert the noisy result afterwards.",
            )
        if not out.is_contiguous():
            raise UsageError(
                f"Expected a contiguous tensor to receive noise, got strides {out.stride()}.",
                remedy="Draw into a contiguous tensor and copy.",
            )
        return out.detach().view(-1)

    def _here(self) -> Desk:
        if self._desk.process != os.getpid():
            self._desk = self._after_fork(self._desk)
        return self._desk

    def _draw(self, flat: torch.Tensor, receive: Receive) -> None:
        """Give `receive` each stretch of `flat` and the next normals for it.

        NumPy does the work, on one thread: torch's threads would meet at a barrier in every short operation.
        """
        precision, domain = DOMAINS[flat.dtype]
        array = flat.cpu().numpy()  # shares its memory with `flat` on the CPU
        desk = self._here()
        with desk.lock:
            first = desk.drawn[domain]
            desk.drawn[domain] = first + len(array)
            if domain not in desk.work:
                desk.work[domain] = Workspace.of(precision)
            _draw_blocks(desk.keys, domain, desk.work[domain], first, array, receive)
        if flat.device.type != "cpu":
            flat.copy_(torch.from_numpy(array))

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse_copy(self)

    def __copy__(self) -> NoReturn:
        refuse_copy(self)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        refuse_copy(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.describe().items())})"


def _draw_blocks(keys: KeyStream, domain: Domain, work: Workspace, first: int, array: Floats, receive: Receive) -> None:
    """Normals number `first` and following of the stream, pass by pass.

    Every normal has its place in a numbered block, so the numbers do not depend on how a draw is cut into calls.
    """
    done = 0
    while done < len(array):
        block, skip = divmod(first + done, BLOCK)
        wanted = skip + len(array) - done
        blocks = min(BLOCKS_PER_PASS, -(-wanted // BLOCK))
        keys.write(work.bytes_of(blocks), domain, block * work.precision.block_bytes // BLOCK_BYTES)
        normals(work, blocks, work.normals[:blocks])
        values = work.normals[:blocks].reshape(-1)[skip:wanted]
        receive(array[done : done + len(values)], values)
        done += len(values)


def finite_std(std: float) -> None:
    """Refuse a standard deviation that is negative or not finite."""
    if not 0 <= std < float("inf"):
        raise UsageError(f"Expected a finite standard deviation of at least 0, got {std!r}.")
