"""Data-parallel private training (`torchrun`): one draw of units, one charge and one draw of noise for the whole job.

Each process computes its share of the drawn units; the clipped sums are added up over the processes; the first one adds
the noise, once, and the noisy sum goes to all. So a job of any size releases what one process would have released.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.job import Job
from sfumato.types import Rows

T = TypeVar("T")
COMPARED_EVERY = 50  # steps; reading all weights costs about as much as a small step


class Ranks(Job):
    """The processes of a `torch.distributed` group; every process holds the whole network and all the data.

    Args:
        group: of the processes; by default all.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._root = 0 if group is None else dist.get_global_rank(group, 0)
        self._device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def drawn(self, draw: Callable[[], Rows]) -> Rows:
        found = self.together(lambda: draw() if self.first else np.empty(0, dtype=np.int64))
        return self.joined(torch.from_numpy(found)).numpy()

    def share(self, units: Rows) -> Rows:
        return units[self.rank :: self.size]

    def together(self, action: Callable[[], T]) -> T:
        result, error = _tried(action)
        mine = "" if error is None else f"process {self.rank}: {type(error).__name__}: {error}"
        text = self.joined(torch.tensor(list(mine.encode()), dtype=torch.uint8))
        if error is not None:
            raise error
        if len(text):
            raise NotPrivateError(
                "Expected every process of the job to finish the step, got a refusal by "
                f"{bytes(text.tolist()).decode(errors='replace')}",
                remedy="No process went on, and nothing was released.",
            )
        return result[0]

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(tensor, group=self.group)
        return tensor

    def joined(self, tensor: torch.Tensor) -> torch.Tensor:
        sizes = [torch.zeros(1, dtype=torch.int64, device=self._device) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(tensor)], device=self._device), group=self.group)
        counts = [int(size) for size in sizes]
        kind = torch.uint8 if tensor.dtype == torch.bool else tensor.dtype
        padded = torch.zeros(max(counts), *tensor.shape[1:], dtype=kind, device=self._device)
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        if max(counts):
            dist.all_gather(parts, padded, group=self.group)
        rows = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return rows.to(device=tensor.device, dtype=tensor.dtype)

    def from_first(self, tensor: torch.Tensor) -> torch.Tensor:
        dist.broadcast(tensor, src=self._root, group=self.group)
        return tensor

    def refuse_difference(self, step: int, state: Callable[[], bytes]) -> None:
        if step % COMPARED_EVERY:
            return
        mine = torch.tensor([list(state())], dtype=torch.uint8)
        everyone = self.joined(mine)
        different = [rank for rank, theirs in enumerate(everyone) if not torch.equal(theirs, everyone[0])]
        if different:
            raise NotPrivateError(
                f"Expected the same plan, step and weights in every process, got others in process {different[0]}.",
                remedy="Seed every process alike before the network is made, load the same weights in each, and let "
                "each optimiser take the same steps.",
            )


def ranks_of_this_job() -> Ranks:
    """All processes that `torchrun` started.

    Raises:
        UsageError: if the process group is not there yet.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise UsageError(
            "Expected a process group, got none.",
            remedy='Call `torch.distributed.init_process_group("gloo")` (or "nccl") first, and start with `torchrun`.',
        )
    return Ranks()


def _tried(action: Callable[[], T]) -> tuple[list[T], Exception | None]:
    try:
        return [action()], None
    except Exception as error:
        return [], error
