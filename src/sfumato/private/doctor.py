"""What private training would refuse in a network, where it is, what to do, and how each parameter's norm is obtained.

The network is looked at, then run on a few rows: one row is replaced to see whose output moves, buffers are watched,
and the engine takes one noiseless step. Nothing is trained, and the given network stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import torch
from torch import nn

from sfumato.errors import NotCaptured, NotPrivateError, SfumatoError, UsageError
from sfumato.private.costs import Chooser
from sfumato.private.coupling import THE_LOSS, coupled_at, written_buffers
from sfumato.private.engine import Engine
from sfumato.private.loop import Loop
from sfumato.private.probe import ROWS, probe
from sfumato.private.refusals import refuse_unsupported
from sfumato.private.replacing import Replaced, fixed, fixed_with_changes
from sfumato.private.uses import ParameterUse, uses_of

__all__ = ["Diagnosis", "Finding", "Severity", "examine", "fixed"]

Loss = Callable[..., torch.Tensor]
T = TypeVar("T")
BY_FIX = "Run `sfumato doctor --fix`, or use `sfumato.private.doctor.fixed(model)`; or freeze it with `.eval()`."


class Severity(StrEnum):
    """What follows from a finding."""

    REFUSED = "refused"
    SLOW = "slow"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that private training minds.

    Args:
        severity: refused, slow (a loop of single examples), or a note.
        place: name of the module, parameter or buffer.
        message: what is there.
        remedy: what to do.
        repaired: whether `fixed` changes it.
    """

    severity: Severity
    place: str
    message: str
    remedy: str
    repaired: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """All that was found.

    Args:
        findings: those that `fixed` repairs, then what was found after these repairs.
        parameters: how one pass uses each, after repairs; empty where one pass cannot follow the network.
        changes: what `fixed` would change.
        rows: in the batch that was tried, each an example.
    """

    findings: tuple[Finding, ...]
    parameters: tuple[ParameterUse, ...]
    changes: tuple[Replaced, ...]
    rows: int

    @property
    def refused(self) -> bool:
        """Whether the network as it is would be refused."""
        return self._any(Severity.REFUSED)

    @property
    def kept_bytes(self) -> int:
        """Of gradients per example that one pass holds at once, for a batch of `rows`."""
        return sum(parameter.kept_bytes for parameter in self.parameters)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.refused:
            left = any(f.severity is Severity.REFUSED and not f.repaired for f in self.findings)
            return "Refused as it is; " + ("it needs your hand." if left else "`--fix` repairs it.")
        if self._any(Severity.SLOW):
            return "Private training is possible, by a loop of single examples: one small pass for each."
        return "Private training is possible, in one pass."

    def _any(self, severity: Severity) -> bool:
        return any(finding.severity is severity for finding in self.findings)


def examine(model: nn.Module, rows: Sequence[torch.Tensor], loss: Loss) -> Diagnosis:
    """Look at a network and run it on a few rows.

    Args:
        model: any network, in the mode in which it would be trained.
        rows: tensors with at least 4 rows in front, made up or public. Private records do not belong here: what a
            diagnosis says has no noise.
        loss: model and tensors to one loss per row, [rows].

    Raises:
        UsageError: for too few rows, or a network that does not run on them.
    """
    if min((len(tensor) for tensor in rows), default=0) <= ROWS:
        raise UsageError(f"Expected at least {ROWS + 1} rows, got {[len(tensor) for tensor in rows]}.")
    repaired, changes = fixed_with_changes(model)
    findings, engine = _examined(repaired, rows, loss)
    parameters = [] if engine is None else uses_of(engine, lambda: loss(engine.module, *rows), len(rows[0]))
    every = [*map(_by_replacing, changes), *findings, *_about(parameters)]
    return Diagnosis(tuple(every), tuple(parameters), tuple(changes), len(rows[0]))


def _examined(model: nn.Module, rows: Sequence[torch.Tensor], loss: Loss) -> tuple[list[Finding], Engine | None]:
    """Findings of a network that has been repaired, and its engine where one pass can follow it."""

    def on(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return loss(model, *tensors)

    try:
        refuse_unsupported(model)
    except NotCaptured as error:
        return [_finding(Severity.SLOW, error), *_by_running(model, rows, on)], None
    except NotPrivateError as error:
        return [_finding(Severity.REFUSED, error)], None
    found = _by_running(model, rows, on)
    if found:
        return found, None
    engine = Engine(model, Chooser())
    try:
        engine.learn(lambda index: on([tensor[list(index)] for tensor in rows]))
        probe(engine, on, [tensor[: ROWS + 1] for tensor in rows], complete=True)
        uses_of(engine, lambda: on(rows), len(rows[0]))
    except NotCaptured as error:
        return [_finding(Severity.SLOW, error), *_by_loop(model, rows, on)], None
    except NotPrivateError as error:
        return [_finding(Severity.REFUSED, error)], None
    return [], engine


def _by_running(model: nn.Module, rows: Sequence[torch.Tensor], on: Callable[..., torch.Tensor]) -> list[Finding]:
    """Buffers that are written to, and the place that mixes rows."""
    written = _ran(lambda: written_buffers(model, rows, on))
    found = [
        Finding(
            Severity.REFUSED,
            name,
            "This buffer is written to in the forward pass: it would carry examples into the released state.",
            "Compute it beforehand from public data, or take the layer without it.",
        )
        for name in written
    ]
    coupled = _ran(lambda: coupled_at(copy.deepcopy(model) if written else model, rows, on))
    if coupled is not None:
        of = "" if coupled.place == THE_LOSS else f" ({coupled.kind})"
        message = f"One example moves the output of another one here{of}, by {coupled.moved:.2g} of its size."
        remedy = "Let every example have its own value: no mean, maximum, sorting or normalisation over the batch."
        found.append(Finding(Severity.REFUSED, coupled.place, message, remedy))
    return found


def _by_loop(model: nn.Module, rows: Sequence[torch.Tensor], on: Callable[..., torch.Tensor]) -> list[Finding]:
    """Whether at least the loop of single examples can train it."""
    weights = torch.ones(2, dtype=torch.float64)
    try:
        Loop(model).add(on, [tensor[:2] for tensor in rows], weights, 2, torch.ones_like, {})
    except NotPrivateError as error:
        return [_finding(Severity.REFUSED, error)]
    return []


def _by_replacing(change: Replaced) -> Finding:
    message = f"{change.before} mixes the examples of a batch or keeps statistics of them; {change.after} does not."
    return Finding(Severity.REFUSED, change.place, message, BY_FIX, repaired=True)


def _about(parameters: Sequence[ParameterUse]) -> list[Finding]:
    found = []
    for use in parameters:
        if not use.touched:
            message = "No gradient reached this parameter: it would be moved by noise alone."
            found.append(Finding(Severity.NOTE, use.name, message, "Freeze it with `requires_grad_(False)`."))
        elif use.fallback:
            message = (
                f"No rule for {', '.join(use.fallback)}: it is differentiated row by row, which is exact and slower."
            )
            found.append(Finding(Severity.NOTE, use.name, message, "Nothing needs to be done."))
    return found


def _finding(severity: Severity, error: SfumatoError) -> Finding:
    return Finding(severity, "the network", error.message, error.remedy)


def _ran(action: Callable[[], T]) -> T:
    try:
        return action()
    except SfumatoError:
        raise
    except Exception as error:
        raise UsageError(
            f"Expected a network that runs on these rows, got {type(error).__name__}: {error}.",
            remedy="Give the shape of a record and the number of classes (`--shape`, `--classes`).",
        ) from error
