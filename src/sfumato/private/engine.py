"""The clipped sum of one physical batch: forward, backward, norms, clip, sum. Nothing is released here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from sfumato.errors import NotCaptured, NotPrivateError
from sfumato.private.capture.foreign import REENTRANT
from sfumato.private.capture.layouts import Site, SiteLayout, Trace, compare
from sfumato.private.capture.mode import Capture
from sfumato.private.capture.slots import Settled
from sfumato.private.capture.tape import Tape
from sfumato.private.costs import Chooser
from sfumato.private.refusals import Untouched

LEARNING_ROUNDS = 5
REPLACED = (0, 2)  # the second of two rows is another one
Losses = Callable[[], torch.Tensor]
Factors = Callable[[torch.Tensor], torch.Tensor]


class Clipped(NamedTuple):
    """What a physical batch adds to the step.

    Args:
        squared: squared norms [units, parameters], non-finite where an example was.
        loss: the sum of the weighted losses, private: for tests and for the trainer's own eyes.
    """

    squared: torch.Tensor
    loss: torch.Tensor


@dataclass(eq=False)
class Engine:
    """Clipped sums over the private parameters of one network.

    Args:
        module: the user's own network; it is neither wrapped nor changed.
        chooser: of kernels.
    """

    module: nn.Module
    chooser: Chooser = field(default_factory=Chooser)
    layouts: dict[Site, SiteLayout] = field(default_factory=dict)
    ways: dict[str, str] = field(default_factory=dict)
    buffers: dict[Any, torch.Tensor] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The private parameters: all that ask for a gradient."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    @property
    def bytes_kept(self) -> int:
        """Bytes of gradients that one unit keeps until the end of its batch, as far as passes have shown so far."""
        return sum(buffer[0].numel() * buffer.element_size() for buffer in self.buffers.values())

    def learn(self, losses_on: Callable[[tuple[int, ...]], torch.Tensor]) -> None:
        """Find the batch axes by running on two rows, on three, and on two of which one is another.

        Args:
            losses_on: the losses of these rows of some batch of at least three.
        """
        self.layouts = {}
        for _ in range(LEARNING_ROUNDS):
            two, three, changed = (self._traced(losses_on, rows) for rows in ((0, 1), (0, 1, 2), REPLACED))
            self.layouts = compare(two, three, changed)
            if not any(self.layouts[site].output for site in two.derived & self.layouts.keys()):
                return  # else: what is made of parameters alone, one part for each row, is data from there on

    def _traced(self, losses_on: Callable[[tuple[int, ...]], torch.Tensor], rows: tuple[int, ...]) -> Trace:
        trace = Trace(replaced=rows == REPLACED)
        with torch.random.fork_rng(), self._mode(self._tape(len(rows), len(rows)), trace):
            torch.manual_seed(0)
            losses_on(rows)
        return trace

    def add(
        self,
        losses: Losses,
        weights: torch.Tensor,
        units: int,
        factors: Factors,
        sums: dict[str, torch.Tensor],
        guessed: Set[Site] | None = None,
    ) -> Clipped:
        """Add the clipped gradients of a physical batch to `sums`.

        Args:
            losses: runs the network and gives one loss per row, [rows].
            weights: of each row in its unit's loss, [rows]; 0 for padding.
            units: of privacy in the batch, each with rows / units rows.
            factors: squared norms [units, parameters] to multipliers of the same shape.
            sums: by parameter name, float32 or better; a parameter that no unit used is left out.
            guessed: the sites that learning did not come by whose layout may be guessed from sizes; None for all.

        Raises:
            UnknownSite: at any other such site, before anything is added.
            NotPrivateError: if a gradient reached a parameter past the recorded uses, a buffer was written to, or the
                losses are not one per row.
        """
        parameters = self.parameters
        squared, settled, loss = self.gradients(losses, weights, units, parameters, guessed)
        whole = squared.sum(dim=1)  # an example that is not finite anywhere counts as zero everywhere
        finite = whole.isfinite()
        all_finite = bool(finite.all())
        multipliers = factors(squared)
        multipliers = multipliers if all_finite else torch.where(finite[:, None], multipliers, 0)
        for index, name in enumerate(parameters):
            if name in settled:
                part = settled[name]
                part.squared = whole
                total = part.weighted_sum(multipliers[:, index], all_finite=all_finite)
                total = total.to(torch.promote_types(total.dtype, torch.float32))
                sums[name] = sums[name].add_(total) if name in sums else total
        return Clipped(squared, loss)

    def gradients(
        self,
        losses: Losses,
        weights: torch.Tensor,
        units: int,
        parameters: Mapping[str, torch.Tensor] | None = None,
        guessed: Set[Site] | None = None,
    ) -> tuple[torch.Tensor, dict[str, Settled], torch.Tensor]:
        """Squared norms [units, parameters], the gradients by parameter, and the weighted loss.

        Args:
            losses: as for `add`, like the next two.
            weights: of each row.
            units: of privacy.
            parameters: the private ones, if the caller has them at hand.
            guessed: as for `add`.
        """
        parameters = self.parameters if parameters is None else parameters
        self._refuse_gradients(parameters, "before")
        tape = self._tape(len(weights), units, parameters, guessed)
        untouched = Untouched(self.module)
        with self._mode(tape, None):
            values = losses()
        check_losses(values, len(weights))
        total = (values * weights.to(values.dtype)).sum()
        if total.requires_grad:
            total.backward()
        self._refuse_gradients(parameters, "after", total)
        untouched.refuse_changes()
        settled = tape.finish()
        self.ways = tape.ways
        squared = torch.zeros(units, len(parameters), dtype=torch.float32, device=weights.device)
        squared = squared.to(torch.promote_types(values.dtype, torch.float32))
        for index, name in enumerate(parameters):
            if name in settled:
                squared[:, index] = settled[name].squared
        return squared, settled, total.detach()

    def _tape(
        self,
        rows: int,
        units: int,
        parameters: Mapping[str, torch.Tensor] | None = None,
        guessed: Set[Site] | None = None,
    ) -> Tape:
        return Tape(
            self.parameters if parameters is None else parameters,
            rows,
            units,
            self.layouts,
            self.chooser,
            self.buffers,
            guessed,
        )

    def _mode(self, tape: Tape, trace: Trace | None) -> Capture:
        frozen = [p for p in self.module.parameters() if not p.requires_grad]
        return Capture(tape, [*frozen, *self.module.buffers()], trace)

    def _refuse_gradients(
        self, parameters: Mapping[str, torch.Tensor], when: str, total: torch.Tensor | None = None
    ) -> None:
        for name, parameter in parameters.items():
            if parameter.grad is None:
                continue
            if when == "before":
                parameter.grad = None
                continue
            parameter.grad = None
            raise NotCaptured(
                f"Expected every use of {name} to be recorded, got a gradient past the record, by "
                f"{_operation(total, parameter)}.",
                remedy="Use torch operations that a function mode can see, or train with a loop of single examples "
                "(`method='loop'`).",
            )


def check_losses(losses: torch.Tensor, rows: int) -> None:
    """Raises: NotPrivateError, unless there is one loss per row, [rows]."""
    if not isinstance(losses, torch.Tensor) or losses.shape != (rows,):
        raise NotPrivateError(
            f"Expected one loss per row, shape ({rows},), got {getattr(losses, 'shape', type(losses))}.",
            remedy='Use reduction="none" and average over everything but the rows.',
        )


def _operation(total: torch.Tensor | None, parameter: torch.Tensor) -> str:
    """The name of the graph node through which a gradient reached the parameter."""
    todo, seen = [None if total is None else total.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            if getattr(following, "variable", None) is parameter:
                return str(node.name())
            if following is not None and following.name() == REENTRANT:
                return f"{REENTRANT} (activation checkpointing)"
            todo.append(following)
    return "an operation that torch's graph does not name"
