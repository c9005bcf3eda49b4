"""How one pass uses each private parameter: operations, the way to its norm, and what is kept per example."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from sfumato.private.capture.slots import Slot
from sfumato.private.engine import Engine
from sfumato.private.rules.base import Term
from sfumato.private.rules.generic import GenericTerm


@dataclass(frozen=True)
class ParameterUse:
    """One private parameter in one pass.

    Args:
        name: of the parameter.
        shape: of the parameter.
        operations: that use it, each once.
        ways: to the norm of its per-example gradient: "gram..." keeps no gradient per example, others keep one.
        fallback: operations without a rule, which are differentiated row by row.
        kept_bytes: of gradients per example, for the whole batch.
        touched: whether any gradient reached it.
    """

    name: str
    shape: tuple[int, ...]
    operations: tuple[str, ...]
    ways: tuple[str, ...]
    fallback: tuple[str, ...]
    kept_bytes: int
    touched: bool


def uses_of(engine: Engine, losses: Callable[[], torch.Tensor], rows: int) -> list[ParameterUse]:
    """Run forward and backward once, and say how each parameter was used.

    Args:
        engine: that has learned the layouts.
        losses: runs the network on `rows` rows.
        rows: each its own unit.
    """
    tape = engine._tape(rows, rows)
    with torch.random.fork_rng(), engine._mode(tape, None):
        total = losses().sum()
    seen = {name: _operations(tape.slots.values(), name) for name in engine.parameters}  # before they are let go
    if total.requires_grad:
        total.backward()
    settled = tape.finish()
    used = [slot for slot in tape.slots.values() if slot.uses]
    found = []
    for name, parameter in engine.parameters.items():
        slots = [slot for slot in used if name in slot.leaves]
        dense = settled[name].dense if name in settled else None
        found.append(
            ParameterUse(
                name=name,
                shape=tuple(parameter.shape),
                operations=seen[name].all,
                ways=tuple(dict.fromkeys(tape.ways[slot.name] for slot in slots if slot.name in tape.ways)),
                fallback=seen[name].without_rule,
                kept_bytes=0 if dense is None else dense.numel() * dense.element_size(),
                touched=name in settled and bool(settled[name].squared.ne(0).any()),
            )
        )
    return found


class _Operations(NamedTuple):
    all: tuple[str, ...]
    without_rule: tuple[str, ...]


def _operations(slots: Iterable[Slot], name: str) -> _Operations:
    terms = [use.term for slot in slots if name in slot.leaves for use in slot.uses]
    without = [_name(term) for term in terms if isinstance(term, GenericTerm)]
    return _Operations(tuple(dict.fromkeys(map(_name, terms))), tuple(dict.fromkeys(without)))


def _name(term: Term) -> str:
    if isinstance(term, GenericTerm):
        return str(getattr(term.call.function, "__name__", term.call.function))
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(term).__name__.removesuffix("Term"))
    return words.lower()
