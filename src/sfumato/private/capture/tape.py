"""What one forward and backward pass leaves behind: every use of every private tensor, settled as gradients arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

import torch

from sfumato.errors import NotCaptured, NotPrivateError
from sfumato.private.capture.layouts import Site, SiteLayout, UnknownSite
from sfumato.private.capture.slots import Settled, Slot, Use
from sfumato.private.capture.tap import tapped
from sfumato.private.costs import Chooser
from sfumato.private.rules.base import ClosedForm, Layout, Term, rows_first, squares


class Tape:
    """The uses of the private tensors of one pass.

    Args:
        parameters: the private ones by name.
        rows: in the batch.
        units: of privacy in the batch; each has rows / units rows, one after the other.
        layouts: by site, from runs on two and three rows.
        chooser: of the way to get each norm.
        buffers: kept between passes for gradients of units, by name and shape.
        guessed: sites that no run on two and three rows came by and whose layout may be guessed; None for all.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        rows: int,
        units: int,
        layouts: Mapping[Site, SiteLayout],
        chooser: Chooser,
        buffers: dict[Any, torch.Tensor],
        guessed: Set[Site] | None = None,
    ) -> None:
        self.rows, self.units, self.layouts = rows, units, layouts
        self.chooser, self.buffers, self.guessed = chooser, buffers, guessed
        self.parameters = dict(parameters)
        self.slots = {id(tensor): Slot(tensor, name, (name,)) for name, tensor in parameters.items()}
        self.settled: dict[int, Settled] = {}
        self.ways: dict[str, str] = {}
        self.promised: Counter[str] = Counter()  # by parameter

    def refuse_unknown(self, site: Site) -> None:
        """Raises: UnknownSite, where no run on two and three rows came by and guessing is not allowed."""
        if self.guessed is not None and site not in self.layouts and site not in self.guessed:
            raise UnknownSite(site)

    def derive(
        self,
        output: torch.Tensor,
        parents: Sequence[Slot],
        function: str,
        *,
        same_norm: bool,
        form: ClosedForm | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """Track a tensor that was made of parameters alone."""
        leaves = tuple(dict.fromkeys(leaf for parent in parents for leaf in parent.leaves))
        moved = same_norm and all(parent.same_norm for parent in parents)
        names = ", ".join(parent.name for parent in parents)
        slot = Slot(output, f"{function}({names})", leaves, True, moved, len(self.slots), form=form)
        slot.sources = sources or {}
        self.slots[id(output)] = slot

    def promise(self, slots: Sequence[Slot]) -> None:
        """Uses that come later, when a checkpointed part runs again: until then no norm may be taken."""
        self.promised.update(leaf for slot in slots for leaf in slot.leaves)

    def keep(self, promised: Counter[str]) -> None:
        """The part that made these promises has run again, and is recorded."""
        self.promised -= promised

    def record(self, output: torch.Tensor, terms: Sequence[tuple[int, Term]], layout: Layout) -> torch.Tensor:
        """Note a use of private tensors (by their identity) at this output, and wait for its gradient."""
        uses = []
        for identity, term in terms:
            use = Use(term, layout, tuple(saved._version for saved in term.saved))
            self.slots[identity].uses.append(use)
            uses.append((self.slots[identity], use))
        return tapped(output, lambda grad: self._arrived(uses, grad))

    def _arrived(self, uses: Sequence[tuple[Slot, Use]], grad: torch.Tensor) -> None:
        first = rows_first(grad, uses[0][1].layout)  # one output, so one layout: its uses share what they compute of G
        first = first.float() if first.dtype in (torch.bfloat16, torch.float16) else first
        for slot, use in uses:
            _refuse_overwritten(slot, use)
            if use.grad is not None:
                raise NotPrivateError(
                    f"Expected one backward pass, got a second gradient at a use of {slot.name}.",
                    remedy="Call the loss once per batch; sfumato runs the backward pass.",
                )
            use.grad = first
            if len(slot.uses) == 1 and self._alone(slot):
                self.settled[id(slot.tensor)] = self._settle(slot, use.term, first)
                use.spend()

    def _alone(self, slot: Slot) -> bool:
        """Whether nothing else leads to the slot's parameters, so that norms can be taken at once."""
        if slot.form is None and (not slot.same_norm or len(slot.leaves) != 1):
            return False
        if any(self.promised[leaf] for leaf in slot.leaves):
            return False
        leaves = set(slot.leaves)
        return not any(other is not slot and other.uses and leaves & set(other.leaves) for other in self._used_slots())

    def _form(self, slot: Slot) -> ClosedForm | None:
        return slot.form if slot.form is not None and self._alone(slot) else None

    def _used_slots(self) -> list[Slot]:
        return [slot for slot in self.slots.values() if slot.uses]

    def _settle(self, slot: Slot, term: Term, grad: torch.Tensor, *, dense: bool = False) -> Settled:
        form = self._form(slot)
        way = self.chooser.way(term, grad, self.units, dense=dense or (form is not None and not form.covers(term)))
        self.ways[slot.name] = way
        if not way.startswith("gram"):
            out = self._buffer(slot, term, grad)
            if form is None:
                gradients, squared = term.with_norms(grad, self.units, way, out)
                return Settled(squared, dense=gradients)
            return self._settle_dense(slot, term.instantiate(grad, self.units, way, out))
        if form is None:
            return Settled(term.squared_norms(grad, self.units, way), term=term, grad=grad)
        squared = term.squared_norms(form.scaled(term, grad), self.units, way)
        return Settled(squared, term=term, grad=grad, parts=form.parts_of_gram(squared, term, grad))

    def _settle_dense(self, slot: Slot, gradients: torch.Tensor) -> Settled:
        form = self._form(slot)
        if form is None:
            return Settled(squares(gradients), dense=gradients)
        squared = form.squares(gradients)
        return Settled(squared, dense=gradients, parts=form.parts_of_dense(squared, gradients))

    def _buffer(self, slot: Slot, term: Term, grad: torch.Tensor) -> torch.Tensor:
        key = (slot.name, slot.place, tuple(term.shape), grad.dtype, grad.device)
        if key not in self.buffers or len(self.buffers[key]) < self.units:
            self.buffers[key] = grad.new_empty(self.units, *term.shape)
        return self.buffers[key][: self.units]

    def finish(self) -> dict[str, Settled]:
        """Gradients by parameter; parameters without any use or gradient are left out (their gradient is zero)."""
        for slot in self._used_slots():
            if id(slot.tensor) not in self.settled:
                joined = self._join(slot)
                if joined is not None:
                    self.settled[id(slot.tensor)] = joined
        found: dict[str, Settled] = {}
        for name in self.parameters:
            parts = [s for s in self._used_slots() if name in s.leaves and id(s.tensor) in self.settled]
            if parts:
                found[name] = self._for_parameter(name, parts)
        return found

    def _join(self, slot: Slot) -> Settled | None:
        """All uses of one tensor together: as one use with more rows where the rule can, else added up."""
        uses = [use for use in slot.uses if use.grad is not None]
        if not uses:
            return None
        terms, grads = [use.term for use in uses], [use.grad for use in uses if use.grad is not None]
        only_dense = not self._alone(slot)
        if len(uses) == 1:
            return self._settle(slot, terms[0], grads[0], dense=only_dense)
        kinds = dict.fromkeys(type(term) for term in terms)  # one of them may know how all go together
        joined = next((found for kind in kinds if (found := kind.joined(terms, grads, self.units))), None)
        if joined is not None:
            return self._settle(slot, *joined, dense=only_dense)
        total = self._buffer(slot, terms[0], grads[0])
        for index, (term, grad) in enumerate(zip(terms, grads, strict=True)):
            way = self.ways[slot.name] = self.chooser.way(term, grad, self.units, dense=True)
            if index == 0:
                total = term.instantiate(grad, self.units, way, total)
            else:
                total += term.instantiate(grad, self.units, way)
        return self._settle_dense(slot, total)

    def _for_parameter(self, name: str, parts: Sequence[Slot]) -> Settled:
        """From gradients with respect to the tensors made of a parameter to those with respect to the parameter."""
        first = self.settled[id(parts[0].tensor)]
        if len(parts) == 1 and not parts[0].derived:
            return first
        if len(parts) == 1 and first.parts:
            part = first.parts[parts[0].sources[name]]
            term = None if part.dense is not None else _Mapped(self.parameters[name], parts[0].tensor, first)
            return Settled(part.squared, dense=part.dense, term=term, grad=part.squared)
        if len(parts) == 1 and parts[0].same_norm and len(parts[0].leaves) == 1:
            return Settled(
                first.squared, term=_Mapped(self.parameters[name], parts[0].tensor, first), grad=first.squared
            )
        total: torch.Tensor | None = None
        for slot in parts:
            here = self.settled[id(slot.tensor)].dense
            assert here is not None
            mapped = _pulled_back(slot.tensor, self.parameters[name], here) if slot.derived else here
            total = mapped if total is None else total + mapped
        assert total is not None
        return Settled(squares(total), dense=total)


class _Mapped(Term):
    """Gradients with respect to a tensor that is its parameter with the numbers moved about: mapped after the sum."""

    def __init__(self, parameter: torch.Tensor, derived: torch.Tensor, settled: Settled) -> None:
        self.parameter, self.derived, self.settled = parameter, derived, settled
        self.shape = parameter.shape

    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        assert self.settled.dense is not None
        return _pulled_back(self.derived, self.parameter, self.settled.dense)

    def weighted_sum(self, grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        total = self.settled.weighted_sum(factors)
        return torch.autograd.grad(self.derived, self.parameter, total.to(self.derived.dtype), retain_graph=True)[0]


def _pulled_back(derived: torch.Tensor, parameter: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """[units, *derived] to [units, *parameter] by the chain rule, for all units at once."""
    return torch.autograd.grad(
        derived, parameter, gradients.to(derived.dtype), is_grads_batched=True, retain_graph=True, allow_unused=False
    )[0]


def _refuse_overwritten(slot: Slot, use: Use) -> None:
    if any(saved._version != version for saved, version in zip(use.term.saved, use.versions, strict=True)):
        raise NotCaptured(
            f"Expected the input of the layer with {slot.name} to stay as it was, got one that was written to later.",
            remedy="Use the operation that is not in place after it (for instance `relu` without `inplace=True`).",
        )
