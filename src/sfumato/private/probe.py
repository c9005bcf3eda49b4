"""Does any example move another one's gradient, and does the record account for the whole gradient?

Clipping bounds one unit's influence only if its gradient depends on nobody else. The probe runs the network on three
rows of a batch, replaces one of them (by another row, and by an extreme one), with the same random numbers, and demands
that losses and gradients of the others stay where they were. It also compares the sum of the recorded gradients with
what autograd computes without any record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from sfumato.errors import NotCaptured, NotPrivateError
from sfumato.private.capture.slots import Settled
from sfumato.private.engine import Engine

LossOf = Callable[[Sequence[torch.Tensor]], torch.Tensor]
ROWS = 3
CANDIDATES = 2 * (ROWS + 1)  # for the rows of a probe, in case some are not finite
EXTREME = 1e3
COUPLED = 1e-4  # relative; far above rounding, which rows of one shape hardly show
MISSING = {torch.float64: 1e-6, torch.float32: 2e-2}
SEED = 1299709


class _Seen(NamedTuple):
    losses: torch.Tensor  # [rows]
    gradients: dict[str, torch.Tensor]  # by parameter, [rows, entries]
    finite: torch.Tensor  # bool [rows]: loss and squared norm


def finite_records(loss: LossOf, candidates: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The first `ROWS` + 1 candidates [rows] that neither hold nor lead to a non-finite number; else some repeat.

    Records that count as zero in every step say nothing about the network, and must not decide how it is followed.
    Where no candidate is finite the first ones are returned, for `probe` to refuse.
    """
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(SEED)
        values = loss(candidates)
    rows = len(candidates[0])
    seen = [*candidates, values] if isinstance(values, torch.Tensor) and values.shape == (rows,) else candidates
    good = torch.stack([tensor.reshape(rows, -1).isfinite().all(dim=1).cpu() for tensor in seen]).all(dim=0)
    places = (good if good.any() else ~good).nonzero()[:, 0]
    kept = places[torch.arange(ROWS + 1) % len(places)]
    return [tensor[kept.to(tensor.device)] for tensor in candidates]


def probe(engine: Engine, loss: LossOf, rows: Sequence[torch.Tensor], *, complete: bool) -> None:
    """Refuse a network or a loss under which per-example clipping would bound nothing.

    Args:
        engine: of the network.
        loss: tensors with rows first to losses [rows].
        rows: tensors of exactly `ROWS` + 1 rows; the last replaces another one.
        complete: whether to compare with autograd's own gradient as well.

    Raises:
        NotPrivateError: if examples are coupled.
        NotCaptured: if the record is not the whole gradient.
    """
    here = [tensor[:ROWS] for tensor in rows]
    seen = _gradients(engine, loss, here)
    if not seen.finite.all():
        rows = _without_overflow(rows, seen.finite)
        here = [tensor[:ROWS] for tensor in rows]
        seen = _gradients(engine, loss, here)
    if complete:
        _refuse_incomplete(engine, loss, here, seen)
    for position, extreme in ((0, False), (ROWS - 1, False), (1, True)):
        moved = [_replaced(tensor, position, extreme=extreme) for tensor in rows]
        again = _gradients(engine, loss, moved)
        others = [row for row in range(ROWS) if row != position]
        _refuse_coupled(seen, again, others)


def _without_overflow(rows: Sequence[torch.Tensor], finite: torch.Tensor) -> list[torch.Tensor]:
    """The rows, with others in place of those whose gradient is not finite, which would hide what is looked for."""
    if not finite.any():
        raise NotPrivateError(
            f"Expected an example with a finite loss and gradient among {ROWS}, got none.",
            remedy="Clean the data, lower the learning rate if the weights ran away, or look for a layer that mixes "
            "the batch, where one bad example spoils all: `sfumato doctor` shows it.",
        )
    places = finite.nonzero()[:, 0].cpu()
    kept = torch.cat([places[torch.arange(ROWS) % len(places)], torch.tensor([ROWS])])
    return [tensor[kept.to(tensor.device)] for tensor in rows]


def _replaced(tensor: torch.Tensor, position: int, *, extreme: bool) -> torch.Tensor:
    found = tensor[:ROWS].clone()
    found[position] = tensor[ROWS]
    if extreme and found.is_floating_point():
        found[position] *= EXTREME
    return found


def _gradients(engine: Engine, loss: LossOf, rows: Sequence[torch.Tensor]) -> _Seen:
    values: list[torch.Tensor] = []

    def losses() -> torch.Tensor:
        found = loss(rows)
        values.append(found.detach().double())
        return found

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        weights = torch.ones(ROWS, device=rows[0].device)
        squared, settled, _ = engine.gradients(losses, weights, ROWS)
        gradients = {name: _of_each(part) for name, part in settled.items()}
    return _Seen(values[0], gradients, squared.isfinite().all(dim=1) & values[0].isfinite())


def _of_each(part: Settled) -> torch.Tensor:
    """[rows, entries]; kept in the parameter's own precision, because a network may be large."""
    if part.dense is not None:
        return part.dense.reshape(ROWS, -1).clone()
    only = torch.eye(ROWS, dtype=part.squared.dtype, device=part.squared.device)
    return torch.stack([part.weighted_sum(only[row]).reshape(-1) for row in range(ROWS)])


def _refuse_coupled(before: _Seen, after: _Seen, others: Sequence[int]) -> None:
    for row in others:
        scale = _norm([found[row] for found in before.gradients.values()]) + 1e-30
        moved = _norm([_difference(before, after, name, row) for name in _names(before, after)]) / scale
        loss_scale = abs(float(before.losses[row])) + 1.0
        loss_moved = abs(float(before.losses[row] - after.losses[row])) / loss_scale
        if not (moved <= COUPLED and loss_moved <= COUPLED):
            raise NotPrivateError(
                f"Expected each example to have its own gradient, got one that moved by {max(moved, loss_moved):.2g} "
                "of itself when another example of the batch was replaced.",
                remedy="Look for layers or losses that mix the batch (normalisation over it, a mean over other "
                "examples, a step size chosen for all): `sfumato doctor` shows where.",
            )


def _refuse_incomplete(engine: Engine, loss: LossOf, rows: Sequence[torch.Tensor], seen: _Seen) -> None:
    parameters = engine.parameters
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        total = loss(rows).sum()
        found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    recorded = {name: gradients.sum(dim=0) for name, gradients in seen.gradients.items()}
    scale = _norm(list(recorded.values()))
    for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
        zero = parameter.new_zeros(parameter.numel())
        here = recorded.get(name, zero)
        expected = zero if gradient is None else gradient.detach().reshape(-1)
        error = _norm([here - expected.to(here.dtype)])
        if not error <= MISSING.get(parameter.dtype, 2e-2) * (_norm([expected]) + 1e-3 * scale + 1e-12):
            raise NotCaptured(
                f"Expected the recorded gradient of {name} to be the whole of it, got one that differs by {error:.3g} "
                f"from autograd's of norm {_norm([expected]):.3g}.",
                remedy="A use of the parameter was not recorded, or random numbers differ between two runs with one "
                "seed; train with a loop of single examples (`method='loop'`).",
            )


def _names(before: _Seen, after: _Seen) -> list[str]:
    return list(before.gradients.keys() | after.gradients.keys())


def _difference(before: _Seen, after: _Seen, name: str, row: int) -> torch.Tensor:
    """How one row's gradient of one parameter moved; a parameter without any use has none."""
    first, second = before.gradients.get(name), after.gradients.get(name)
    if first is None or second is None:
        only = first if second is None else second
        assert only is not None
        return only[row]
    return first[row] - second[row]


def _norm(parts: Sequence[torch.Tensor]) -> float:
    """L2 norm of all parts together; not a number where one is none."""
    return math.hypot(*(float(torch.linalg.vector_norm(part.float() if part.itemsize < 4 else part)) for part in parts))
