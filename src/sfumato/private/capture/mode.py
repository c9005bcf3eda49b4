"""The torch function mode under which the user's network runs as it is.

Every torch function passes through here. Where one has a private tensor among its arguments, it runs on the tensor's
value (so autograd computes no weight gradient, and nothing flows into the parameter), and its output is tapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from sfumato.errors import NotCaptured, NotPrivateError, UnsupportedModel
from sfumato.private.capture.foreign import refuse_foreign_checkpoint
from sfumato.private.capture.layouts import Site, Trace, layout_at, second_moved
from sfumato.private.capture.opened import opened
from sfumato.private.capture.slots import Slot
from sfumato.private.capture.tape import Tape
from sfumato.private.capture.writes import Writes, writes_in_place
from sfumato.private.rules.base import Call, ClosedForm, Layout, Rule, Term, rule_of
from sfumato.private.rules.generic import Generic

# functions that only move numbers about: the norm of a gradient is the same before and after
MOVES = frozenset(
    {
        torch.Tensor.T.__get__,  # pyright: ignore[reportAttributeAccessIssue] - a getset descriptor
        torch.Tensor.mT.__get__,  # pyright: ignore[reportAttributeAccessIssue]
        torch.Tensor.view,
        torch.Tensor.reshape,
        torch.reshape,
        torch.Tensor.transpose,
        torch.transpose,
        torch.Tensor.t,
        torch.t,
        torch.Tensor.permute,
        torch.permute,
        torch.Tensor.flatten,
        torch.flatten,
        torch.Tensor.unflatten,
        torch.Tensor.unsqueeze,
        torch.unsqueeze,
        torch.Tensor.squeeze,
        torch.squeeze,
        torch.Tensor.contiguous,
        torch.Tensor.clone,
        torch.clone,
        torch.Tensor.movedim,
        torch.movedim,
    }
)
# functions that never use a tensor's numbers as numbers
SILENT = frozenset({torch.Tensor.detach, torch.Tensor.data.__get__, torch.Tensor.grad.__get__, torch.Tensor.size})  # type: ignore[attr-defined]
IN_PLACE = ("__setitem__", "__i")  # with names that end in "_": functions that write to their first argument
COUPLING = "in training mode it mixes the examples of a batch, so that no example's influence is bounded"


class Capture(TorchFunctionMode):
    """Sees each use of the tape's private tensors.

    Args:
        tape: where uses are noted.
        constants: tensors that are no one's data: buffers and frozen parameters.
        trace: if given, shapes are noted there and nothing is tapped.
    """

    def __init__(self, tape: Tape, constants: Iterable[torch.Tensor], trace: Trace | None = None) -> None:
        super().__init__()
        self.tape, self.trace = tape, trace
        self.constants = {id(tensor): tensor for tensor in constants}
        self.visits: dict[tuple[str, str], int] = {}
        self.suspended = False
        self.rehearsing = False  # a checkpointed part runs forward: uses are counted, recorded when it runs again
        self.writes = Writes(tape.parameters)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.suspended:
            return func(*args, **kwargs)
        if func in SILENT:
            return self._cut(func(*args, **kwargs), args)
        self.writes.refuse(func, args, kwargs)
        tensors = list(_tensors((*args, *kwargs.values())))
        private = [self.tape.slots[id(t)] for t in tensors if id(t) in self.tape.slots]
        if func is torch.nn.functional.batch_norm:
            _refuse_batch_norm(args, kwargs)
        if not private or not torch.is_grad_enabled():
            out = func(*args, **kwargs)
            if all(id(t) in self.constants or id(t) in self.tape.slots for t in tensors):
                if isinstance(out, torch.Tensor):
                    self.constants[id(out)] = out
            elif (
                args and id(args[0]) in self.constants and _name(func).startswith(IN_PLACE) | _name(func).endswith("_")
            ):
                del self.constants[id(args[0])]  # data were written into it
            return out
        return self._private(func, args, kwargs, tensors, private)

    def _cut(self, out: Any, args: tuple[Any, ...]) -> Any:
        """A value without its graph: of a parameter or a constant it is a constant."""
        if isinstance(out, torch.Tensor) and (id(args[0]) in self.tape.slots or id(args[0]) in self.constants):
            self.constants[id(out)] = out
        return out

    def _private(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[torch.Tensor], private: list[Slot]
    ) -> Any:
        refuse_foreign_checkpoint(self.rehearsing)
        data = [t for t in tensors if id(t) not in self.tape.slots and (id(t) not in self.constants or t.requires_grad)]
        rule = rule_of().get(func)
        if not data and not self._makes_rows(func, private):
            return self._derived(func, args, kwargs, private)
        inside = opened(func) if rule is None else None
        if inside is not None:
            with self:
                return inside(*args, **kwargs)
        if rule is not None and rule.composite:
            with self:
                return rule.expand(func, args, kwargs)
        return self._used(func, args, kwargs, private, rule, made=not data)

    def _makes_rows(self, func: Any, private: list[Slot]) -> bool:
        """Whether a function of parameters alone makes one row per row of the batch (an expanded class token)."""
        known = self.tape.layouts.get((*_names(func, private), self.visits.get(_names(func, private), 0)))
        return known is not None and known.output is not None

    def _derived(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], private: list[Slot]) -> Any:
        site = self._site(func, private)
        out = func(*args, **kwargs)
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        for tensor in outputs:
            if isinstance(tensor, torch.Tensor):
                self._note_derived(tensor, private, func, lambda rule: rule.bind(args, kwargs))
        if self.trace is not None and isinstance(out, torch.Tensor):
            self.trace.values[site] = _kept(out, args, kwargs)
            self.trace.derived.add(site)
        return out

    def _closed_form(
        self, func: Any, bound: Callable[[Rule], dict[str, Any]], private: list[Slot]
    ) -> tuple[ClosedForm | None, dict[str, str]]:
        """The form by which norms at a derived tensor map, and what it calls each parameter."""
        rule = rule_of().get(func)
        if rule is None or type(rule).closed_form is Rule.closed_form or any(slot.derived for slot in private):
            return None, {}
        named = bound(rule)
        slots = {id(slot.tensor): slot.name for slot in private}
        sources = {slots[id(v)]: n for n, v in named.items() if isinstance(v, torch.Tensor) and id(v) in slots}
        return rule.closed_form(named), sources

    def _note_derived(
        self, tensor: torch.Tensor, private: list[Slot], func: Any, bound: Callable[[Rule], dict[str, Any]]
    ) -> None:
        if id(tensor) in self.tape.slots and tensor is self.tape.slots[id(tensor)].tensor:
            return
        if tensor.requires_grad:
            whole = tensor.numel() == private[0].tensor.numel()
            same = func in MOVES and len(private) == 1 and whole
            form, sources = self._closed_form(func, bound, private)
            self.tape.derive(tensor, private, _name(func), same_norm=same, form=form, sources=sources)
        else:
            self.constants[id(tensor)] = tensor

    def _used(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        private: list[Slot],
        rule: Rule | None,
        *,
        made: bool,
    ) -> Any:
        site = self._site(func, private)
        values = self._values(args), {name: self._value(value) for name, value in kwargs.items()}
        if self.trace is not None:
            return self._traced(site, func, *values, made=made)
        self.tape.refuse_unknown(site)
        if self.rehearsing:
            self.tape.promise(private)
            return func(*values[0], **values[1])
        try:
            outcome, layout, terms = self._applied(site, func, values, (args, kwargs), rule or Generic())
        except UnsupportedModel:
            if rule is None:
                raise
            outcome, layout, terms = self._applied(site, func, values, (args, kwargs), Generic())
        if not terms or not outcome.is_floating_point():
            return outcome
        _refuse_missing(func, private, terms)
        if writes_in_place(_name(func)) and outcome._is_view():
            raise _written_view(func, private)
        return self.tape.record(outcome, terms, layout)

    def _applied(
        self, site: Site, func: Any, values: Any, originals: Any, rule: Rule
    ) -> tuple[torch.Tensor, Layout, list[tuple[int, Term]]]:
        bound, was = rule.bind(*values), rule.bind(*originals)
        names = {n: v for n, v in was.items() if isinstance(v, torch.Tensor) and id(v) in self.tape.slots}
        arguments = list(_tensors((*values[0], *values[1].values())))

        def find(output: torch.Tensor) -> tuple[Layout, dict[int, Layout | None]]:
            found = layout_at(self.tape.layouts, site, output, arguments, self.tape.rows)
            if found is None or found.output is None:
                raise _no_batch_axis(site, output, self.tape.rows)
            return found.output, {id(t): part for t, part in zip(arguments, found.arguments, strict=False)}

        call = Call(func, values[0], values[1], bound, tuple(names), self.tape.rows, find)
        outcome = rule.apply(call)
        return outcome.output, call.layout, [(id(names[n]), term) for n, term in outcome.terms.items()]

    def _traced(self, site: Site, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, made: bool) -> Any:
        out = func(*args, **kwargs)
        assert self.trace is not None
        layout = self.tape.layouts[site].output if made else None
        if layout is not None and self.trace.replaced:
            out = second_moved(out, layout)
        if isinstance(out, torch.Tensor):
            self.trace.values[site] = _kept(out, args, kwargs)
        return out

    def _site(self, func: Any, private: list[Slot]) -> Site:
        names = _names(func, private)
        visit = self.visits.get(names, 0)
        self.visits[names] = visit + 1
        return (*names, visit)

    def _values(self, args: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(self._value(value) for value in args)

    def _value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            slot = self.tape.slots.get(id(value))
            return value if slot is None else slot.value
        if isinstance(value, (tuple, list)):
            return type(value)(self._value(part) for part in value) if type(value) in (tuple, list) else value
        return value


def _tensors(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _kept(output: torch.Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    return tuple(t.detach().clone() for t in (output, *_tensors((*args, *kwargs.values()))))


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", func))


def _names(func: Any, private: list[Slot]) -> tuple[str, str]:
    return _name(func), ", ".join(slot.name for slot in private)


def _no_batch_axis(site: Site, output: torch.Tensor, rows: int) -> NotCaptured:
    return NotCaptured(
        f"Expected the output of {site[0]} with {site[1]} to have one axis that grows with the batch of {rows} rows, "
        f"got the shape {tuple(output.shape)}.",
        remedy="Keep the batch axis apart from the others, and do not mix rows; `sfumato doctor` shows the place.",
    )


def _refuse_missing(func: Any, private: list[Slot], terms: list[tuple[int, Term]]) -> None:
    missing = {id(slot.tensor) for slot in private} - {identity for identity, _ in terms}
    for slot in private:
        if id(slot.tensor) in missing:
            raise NotCaptured(
                f"Expected every parameter at {_name(func)} to be covered by its rule, got {slot.name} without one.",
                remedy="Train with a loop of single examples (`method='loop'`).",
            )


def _written_view(func: Any, private: list[Slot]) -> NotCaptured:
    return NotCaptured(
        f"Expected {private[0].name} to be used on a tensor of its own, got {_name(func)} on a part of one in place.",
        remedy="Use the operation that is not in place, and put the parts together with `torch.cat`.",
    )


def _refuse_batch_norm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    training = kwargs.get("training", args[5] if len(args) > 5 else False)
    if training:
        raise NotPrivateError(
            f"Expected every layer to keep examples apart, got batch normalisation: {COUPLING}.",
            remedy="Replace it by GroupNorm (`sfumato doctor --fix`), or freeze it with `.eval()`.",
        )
