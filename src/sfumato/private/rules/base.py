"""What a rule is: how one torch operation uses a private tensor, and the gradients of each unit with respect to it.

Notation as in Bu et al. (2022, arXiv 2210.00038): a batch has `units` units of privacy (examples, or people), each with
the same number of rows, laid out unit after unit. A is what the operation saw, G the gradient of the summed loss at its
output; both have the rows in front.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch

from sfumato.errors import UnsupportedModel
from sfumato.registry import discover

Function = Callable[..., Any]


class Layout(NamedTuple):
    """Where the rows of a batch are in a tensor: `axis`, of size rows * `fold`.

    The `fold` parts of a row lie together, or, where `interleaved`, part by part for all rows (time before batch).
    """

    axis: int
    fold: int = 1
    interleaved: bool = False


def rows_first(tensor: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The tensor with rows (times fold, row after row) along the first axis."""
    first = tensor if layout.axis == 0 else tensor.movedim(layout.axis, 0)
    if not layout.interleaved:
        return first
    return first.unflatten(0, (layout.fold, -1)).transpose(0, 1).flatten(0, 1)


class Instantiated(NamedTuple):
    """The gradient of each unit, [units, *shape], and its squared norm, [units]."""

    gradients: torch.Tensor
    squared: torch.Tensor


def squares(gradients: torch.Tensor) -> torch.Tensor:
    """[units], squared norms; `vector_norm` is an order of magnitude faster than squares and a sum."""
    return torch.linalg.vector_norm(gradients.reshape(len(gradients), -1), dim=1).square_()


class Term(ABC):
    """One use of one private tensor. All tensors have rows first; `grad` is G.

    Attributes:
        shape: of the private tensor.
        saved: what the operation saw; must not be written to before the backward pass.
    """

    shape: torch.Size
    saved: tuple[torch.Tensor, ...] = ()

    def ways(self, grad: torch.Tensor, units: int) -> tuple[str, ...]:
        """Names of the exact ways to get the norms, those that keep no gradient per unit ("gram...") included."""
        return ("dense",)

    @abstractmethod
    def instantiate(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> torch.Tensor:
        """The gradient of each unit.

        Args:
            grad: G, [rows, ...].
            units: divides the number of rows.
            way: one of `ways` that does not start with "gram".
            out: [units, *shape] to write to, if given.

        Returns:
            [units, *shape].
        """

    def with_norms(self, grad: torch.Tensor, units: int, way: str, out: torch.Tensor | None = None) -> Instantiated:
        """`instantiate`, and the squared norms; ways that go unit by unit take each norm while it is in the cache."""
        gradients = self.instantiate(grad, units, way, out)
        return Instantiated(gradients, squares(gradients))

    def squared_norms(self, grad: torch.Tensor, units: int, way: str) -> torch.Tensor:
        """[units], for a way that starts with "gram": an upper bound that is exact up to rounding."""
        raise _missing(self, f"norms by {way!r}")

    def weighted_sum(self, grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """The sum over units of factors[unit] times the unit's gradient, without instantiating any: [*shape].

        Needed by the "gram" ways only.
        """
        raise _missing(self, "a weighted sum without instantiation")

    @classmethod
    def joined(
        cls, terms: Sequence[Any], grads: Sequence[torch.Tensor], units: int
    ) -> tuple[Term, torch.Tensor] | None:
        """Several uses of one tensor, of this kind and maybe others, as one use; None where that is impossible.

        The use has its G [units, ...] and saved tensors with units in front.
        """
        return None


def scaled_rows(grad: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """G with each unit's rows multiplied by the unit's factor."""
    wide = factors.repeat_interleave(len(grad) // len(factors))
    return grad * wide.view(-1, *[1] * (grad.dim() - 1))


class Call:
    """One call of a torch function that has a private tensor among its arguments.

    Args:
        function: that was called.
        args: positional arguments, private tensors replaced by their values (no gradient reaches them).
        kwargs: the same for keywords.
        bound: all arguments by name, as the rule's `signature` names them.
        private: names of the arguments that are private tensors.
        rows: in the batch.
        find: layouts of an output and of the tensors among the arguments (by identity); raises where unknown.
    """

    def __init__(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        bound: dict[str, Any],
        private: tuple[str, ...],
        rows: int,
        find: Callable[[torch.Tensor], tuple[Layout, dict[int, Layout | None]]],
    ) -> None:
        self.function, self.args, self.kwargs, self.bound = function, args, kwargs, bound
        self.private, self.rows, self._find = private, rows, find
        self.layout = Layout(0)
        self.layouts: dict[int, Layout | None] = {}

    def run(self) -> torch.Tensor:
        """The function itself, on values; `layout` and `layouts` are known afterwards."""
        return self.ran(self.function(*self.args, **self.kwargs))

    def ran(self, output: torch.Tensor) -> torch.Tensor:
        """For rules that compute the output in another exact way: says what it is."""
        self.layout, self.layouts = self._find(output)
        return output

    def get(self, name: str, default: Any = None) -> Any:
        """An argument by name."""
        value = self.bound.get(name)
        return default if value is None else value

    def rows_of(self, name: str) -> torch.Tensor:
        """A tensor argument with rows first, without its graph; laid out like the output if nothing else is known."""
        value = self.bound[name]
        return rows_first(value.detach(), self.layouts.get(id(value)) or self.layout)


def _missing(part: object, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"Expected {what} from {type(part).__name__}, which does not offer it.",
        remedy="Train with a loop of single examples (`method='loop'`).",
    )


class Outcome(NamedTuple):
    """The output of a call, and one term for each private argument."""

    output: torch.Tensor
    terms: dict[str, Term]


class Part(NamedTuple):
    """What a closed form says of a source: squared norms [units], and gradients [units, *shape] where cheap."""

    squared: torch.Tensor
    dense: torch.Tensor | None = None


class ClosedForm(ABC):
    """A tensor w made of parameters by a map under which the norms of all units follow without the chain rule.

    h is the gradient of a unit with respect to w. `squared` below is what `squares` gives of h, or what the Gram way
    gives of `scaled` G.
    """

    @abstractmethod
    def covers(self, term: Term) -> bool:
        """Whether the form can do without h where w is used like this."""

    @abstractmethod
    def scaled(self, term: Term, grad: torch.Tensor) -> torch.Tensor:
        """G with its output channels scaled, [rows, ...]."""

    @abstractmethod
    def squares(self, gradients: torch.Tensor) -> torch.Tensor:
        """Squared norms [units] of h [units, *w], scaled in the same way."""

    @abstractmethod
    def parts_of_dense(self, squared: torch.Tensor, gradients: torch.Tensor) -> dict[str, Part]:
        """By source, from h [units, *w]."""

    @abstractmethod
    def parts_of_gram(self, squared: torch.Tensor, term: Term, grad: torch.Tensor) -> dict[str, Part]:
        """By source, from the term and G."""


class Rule(ABC):  # one of `apply` and `expand`
    """How to run one kind of operation and what to keep for the gradients. Stateless; discovered by its `functions`.

    Attributes:
        name: for messages and the record.
        signature: names of the positional arguments.
        composite: whether `expand` is used in place of `apply`.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "rule"
    signature: ClassVar[tuple[str, ...]] = ()
    composite: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def functions(cls) -> tuple[Function, ...]:
        """The torch functions that it covers, as a function mode sees them."""

    def apply(self, call: Call) -> Outcome:
        """Run the call and say how its private arguments were used.

        Raises:
            UnsupportedModel: if these arguments are not covered; the fallback takes over.
        """
        raise _missing(self, "this form of a rule")

    def expand(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same computation in terms of operations that have rules; the mode sees each of them."""
        raise _missing(self, "this form of a rule")

    def closed_form(self, bound: Mapping[str, Any]) -> ClosedForm | None:
        """For a function of parameters alone: how to map norms, or None for the chain rule."""
        return None

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name."""
        if len(args) > len(self.signature):
            raise UnsupportedModel(
                f"Expected at most {len(self.signature)} positional arguments for {self.name}, got {len(args)}.",
                remedy="Call it with the arguments that torch documents.",
            )
        return dict(zip(self.signature, args, strict=False)) | kwargs


@cache
def rule_of() -> dict[Function, Rule]:
    """All rules by the torch function that they cover."""
    found: dict[Function, Rule] = {}
    for kind in discover(importlib.import_module("sfumato.private.rules"), Rule).values():
        found |= dict.fromkeys(kind.functions(), kind())  # pyright: ignore[reportAbstractUsage] - discovered: final
    return found
