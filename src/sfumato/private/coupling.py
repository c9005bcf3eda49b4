"""Where a network mixes the rows of a batch: one row is replaced; the first module whose other rows move is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

LossOf = Callable[[Sequence[torch.Tensor]], torch.Tensor]
MOVED = 1e-4  # relative; far above rounding
SEED = 1299709
THE_LOSS = "the loss"


class Coupled(NamedTuple):
    """The place that mixes rows, its kind, and how far another row's output moved, relative to its size."""

    place: str
    kind: str
    moved: float


def coupled_at(model: nn.Module, rows: Sequence[torch.Tensor], loss_of: LossOf) -> Coupled | None:
    """The first module, in the order in which they finish, that lets one row move another one's output.

    Args:
        model: is run twice, with the same random numbers.
        rows: tensors with n + 1 rows; n are run, and the last one then replaces the first.
        loss_of: tensors of some rows to one loss per row.

    Returns:
        The innermost module; `THE_LOSS` where all modules keep rows apart and the losses move; None where none does.
    """
    count = len(rows[0]) - 1
    before = _run(model, [tensor[:count] for tensor in rows], loss_of)
    after = _run(model, [torch.cat([tensor[count:], tensor[1:count]]) for tensor in rows], loss_of)
    for (place, kind, one), (_, _, two) in zip(before, after, strict=False):
        moved = _others_moved(one, two, count)
        if moved > MOVED:
            return Coupled(place, kind, moved)
    return None


def written_buffers(model: nn.Module, rows: Sequence[torch.Tensor], loss_of: LossOf) -> list[str]:
    """Names of the buffers that a forward pass writes to."""
    before = {name: (buffer, buffer._version) for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(), torch.no_grad():
        loss_of(rows)
    now = dict(model.named_buffers())
    same = {n for n, (b, version) in before.items() if now.get(n) is b and b._version == version}
    return sorted((before.keys() | now.keys()) - same)


Seen = list[tuple[str, str, list[torch.Tensor]]]


def _run(model: nn.Module, rows: Sequence[torch.Tensor], loss_of: LossOf) -> Seen:
    found: Seen = []
    with torch.random.fork_rng(), torch.no_grad(), _listening(model, found):
        torch.manual_seed(SEED)
        losses = loss_of(rows)
    found.append((THE_LOSS, "", [losses.detach().clone()]))
    return found


@contextmanager
def _listening(model: nn.Module, found: Seen) -> Iterator[None]:
    def listen(name: str, part: nn.Module) -> Any:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            tensors = [t.detach().clone() for t in tree_leaves(output) if isinstance(t, torch.Tensor)]
            found.append((name or "the network itself", type(part).__name__, tensors))

        return part.register_forward_hook(note)

    handles = [
        listen(name, part) for name, part in model.named_modules() if not isinstance(part, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _others_moved(one: list[torch.Tensor], two: list[torch.Tensor], count: int) -> float:
    """How far rows but the first moved, relative to the whole; infinite where they are no longer numbers."""
    moved = 0.0
    for before, after in zip(one, two, strict=False):
        if before.shape != after.shape or not before.is_floating_point():
            continue
        axis = _row_axis(before, count)
        if axis is None:
            continue
        a, b = (t.movedim(axis, 0).reshape(count, -1)[1:].double() for t in (before, after))
        share = float((a - b).abs().max()) / (float(a.abs().max()) + 1e-12) if a.numel() else 0.0
        moved = max(moved, share if share == share else float("inf"))
    return moved


def _row_axis(tensor: torch.Tensor, count: int) -> int | None:
    """The axis of the rows, or of rows folded with something else, row after row."""
    if tensor.dim() and tensor.shape[0] == count:
        return 0
    exact = [axis for axis, size in enumerate(tensor.shape) if size == count]
    if exact:
        return exact[0]
    return 0 if tensor.dim() and tensor.shape[0] and tensor.shape[0] % count == 0 else None
