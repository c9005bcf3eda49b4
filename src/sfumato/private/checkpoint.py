"""Activation checkpointing that is exact under the record: the part runs again in the backward pass, and is seen there.

Chen et al. (2016, arXiv 1604.06174). In the forward pass nothing that autograd saves is kept; private uses are only
counted. In the backward pass the part runs again, with the same random numbers, under the same function mode, and its
uses are recorded then. Outside a private pass this is `torch.utils.checkpoint.checkpoint`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
import torch.utils.checkpoint as plain
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from sfumato.errors import NotCaptured
from sfumato.private.capture.mode import Capture

KINDS = ("cpu", "cuda")


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a part of a network without keeping its activations.

    Args:
        function: a module or any function; it may use private parameters that are also used elsewhere, must not write
            to its inputs and must not differentiate anything itself.
        *args: its arguments; gradients reach the tensors among them, but none that the function takes from elsewhere.
        **kwargs: more of them.

    Returns:
        What the function returns: tensors, alone or in tuples, lists and dictionaries.

    Raises:
        NotCaptured: if the part writes to its input, or gives back a parameter or something made of parameters alone.
    """
    mode = next((m for m in reversed(_get_current_function_mode_stack()) if isinstance(m, Capture)), None)
    if mode is None:
        return plain.checkpoint(function, *args, use_reentrant=False, **kwargs)
    if mode.trace is not None or mode.rehearsing or not torch.is_grad_enabled():
        return function(*args, **kwargs)
    part = _Part(mode, function, *tree_flatten((args, kwargs)))
    outputs, spec = tree_flatten(part.rehearse())
    part.hidden = outputs
    anchor = torch.zeros((), requires_grad=True)  # so that a gradient flows where no input asks for one
    found = _Checkpoint.apply(part, anchor, *part.inputs())
    return tree_unflatten(list(found), spec)


@dataclass(eq=False)
class _Part:
    """A checkpointed part of one pass, with all that is needed to run it again."""

    mode: Capture
    function: Callable[..., Any]
    leaves: list[Any]
    spec: TreeSpec
    hidden: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visits = dict(self.mode.visits)
        self.random = torch.get_rng_state(), *plain.get_device_states(*tree_leaves(self.leaves))
        self.precision = [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in KINDS]
        self.promised: Counter[str] = Counter()

    def inputs(self) -> list[Tensor]:
        """Tensors that gradients go back to; private ones are seen where they are used."""
        slots = self.mode.tape.slots
        return [x for x in self.leaves if isinstance(x, Tensor) and x.requires_grad and id(x) not in slots]

    def rehearse(self) -> Any:
        """The forward pass: values only."""
        versions = [x._version if isinstance(x, Tensor) else 0 for x in self.leaves]
        before = Counter(self.mode.tape.promised)
        self.mode.rehearsing = True
        try:
            with torch.autograd.graph.saved_tensors_hooks(_forget, _forgotten):
                outputs = self.run(self.leaves)
        finally:
            self.mode.rehearsing = False
        self.promised = self.mode.tape.promised - before
        self._refuse(versions, outputs)
        return outputs

    def run(self, leaves: list[Any]) -> Any:
        args, kwargs = tree_unflatten(leaves, self.spec)
        return self.function(*args, **kwargs)

    def _refuse(self, versions: list[int], outputs: Any) -> None:
        if versions != [x._version if isinstance(x, Tensor) else 0 for x in self.leaves]:
            raise _refusal("leave its inputs alone, got one that writes to them")
        slots = self.mode.tape.slots
        if any(isinstance(x, Tensor) and id(x) in slots for x in tree_leaves(outputs)):
            raise _refusal("give back activations, got one that gives back something made of parameters alone")

    def again(self) -> tuple[list[Any], list[Tensor]]:
        """Run it again under the record: outputs with a graph, and the leaves that gradients gather at."""
        fresh = {id(x): x.detach().requires_grad_() for x in self.inputs()}
        leaves = [fresh.get(id(x), x) for x in self.leaves]
        after, self.mode.visits = self.mode.visits, dict(self.visits)
        with self._as_before(), torch.enable_grad(), self.mode:
            outputs = tree_leaves(self.run(leaves))
        self.mode.visits = after
        self.mode.tape.keep(self.promised)
        return outputs, list(fresh.values())

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        """Random numbers and automatic precision as they were in the forward pass."""
        on_host, devices, states = self.random
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(on_host)
            plain.set_device_states(devices, states)
            with ExitStack() as stack:
                for precision in self.precision:
                    stack.enter_context(torch.autocast(*precision))
                yield


class _Checkpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: _Part, anchor: Tensor, *inputs: Tensor) -> tuple[Any, ...]:
        ctx.part = part
        homes = {x.untyped_storage().data_ptr() for x in part.leaves if isinstance(x, Tensor)}
        found = tuple(_freed(x, homes) if isinstance(x, Tensor) else x for x in part.hidden)
        ctx.mark_non_differentiable(*[x for x in found if isinstance(x, Tensor) and not x.is_floating_point()])
        part.hidden = []
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        part: _Part = ctx.part
        outputs, gathered = part.again()
        pairs = [
            (x, g)
            for x, g in zip(outputs, grads, strict=True)
            if g is not None and isinstance(x, Tensor) and x.requires_grad
        ]
        if pairs:
            torch.autograd.backward([x for x, _ in pairs], [g for _, g in pairs])
        found = dict(zip(map(id, part.inputs()), (leaf.grad for leaf in gathered), strict=False))
        return None, None, *(found[id(x)] for x in part.inputs())


def _freed(output: Tensor, homes: set[int]) -> Tensor:
    """The values without their graph, in memory that no input shares."""
    return output.detach().clone() if output.untyped_storage().data_ptr() in homes else output.data


def _forget(_: Tensor) -> None:
    return None


def _forgotten(_: None) -> NoReturn:
    raise _refusal("leave differentiation to the training, got one that differentiates in its forward pass")


def _refusal(expectation: str) -> NotCaptured:
    return NotCaptured(
        f"Expected a checkpointed part to {expectation}.",
        remedy="Move that out of the part, or run it without checkpointing.",
    )
