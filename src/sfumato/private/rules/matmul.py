"""Products of data with a parameter that is a matrix: linear maps under another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato.errors import UnsupportedModel
from sfumato.private.rules.base import Call, Function, Outcome, Rule, Term, rows_first
from sfumato.private.rules.broadcast import BroadcastSum
from sfumato.private.rules.linear import LinearWeight


class Matmul(Rule):
    """`matmul`, `@`, `mm`: the parameter is a matrix on either side; other shapes are left to the fallback."""

    name = "matmul"
    signature = ("input", "other")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.matmul, Tensor.matmul, torch.mm, Tensor.mm, torch.linalg.matmul)

    def apply(self, call: Call) -> Outcome:
        _matrix_and_data(call, "input", "other")
        output = call.run()
        return Outcome(output, {name: _weight(call, name, ("input", "other"), output) for name in call.private})


class Addmm(Rule):
    """`addmm`: beta * input + alpha * mat1 @ mat2, any of them a parameter."""

    name = "addmm"
    signature = ("input", "mat1", "mat2")

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.addmm, Tensor.addmm)

    def apply(self, call: Call) -> Outcome:
        if set(call.private) - {"input"}:
            _matrix_and_data(call, "mat1", "mat2")
        output, terms = call.run(), dict[str, Term]()
        for name in call.private:
            if name == "input":
                beta = float(call.get("beta", 1))
                terms[name] = BroadcastSum(call.bound[name].shape, call.layout, output.dim(), beta)
            else:
                terms[name] = _weight(call, name, ("mat1", "mat2"), output, float(call.get("alpha", 1)))
        return Outcome(output, terms)


class Einsum(Rule):
    """`einsum` of data and a matrix where one index is summed and one is new; others are left to the fallback."""

    name = "einsum"

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (torch.einsum,)

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        operands = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
        return {"equation": args[0]} | {str(position): value for position, value in enumerate(operands)}

    def apply(self, call: Call) -> Outcome:
        equation = call.bound["equation"]
        if len(call.private) != 1 or len(call.bound) != 3 or not isinstance(equation, str):
            raise _not_linear(call)
        name = call.private[0]
        indices = _Indices.of(equation, int(name))
        if indices is None or call.bound[name].dim() != 2:
            raise _not_linear(call)
        output = call.run()
        axis = call.layout.axis
        batch = indices.output[axis]
        if batch == indices.new:
            raise _not_linear(call)
        others = [i for i in indices.data if i not in (batch, indices.summed)]
        data = call.bound["1" if name == "0" else "0"].detach()
        seen = data.permute([indices.data.index(i) for i in (batch, *others, indices.summed)])
        left = [i for i in indices.output if i != batch]  # axes of G behind the rows
        order = (0, *(1 + left.index(i) for i in (*others, indices.new)))
        weight = call.bound[name]
        transposed = indices.weight[0] == indices.summed
        seen = rows_first(seen, call.layout._replace(axis=0))
        return Outcome(output, {name: AlignedWeight(seen, weight, order, transposed=transposed)})


class _Indices(NamedTuple):
    """Of an equation with one weight [2 axes]: as written, and which index is summed and which is new."""

    data: str
    weight: str
    output: str
    summed: str
    new: str

    @classmethod
    def of(cls, equation: str, position: int) -> _Indices | None:
        left, arrow, output = equation.replace(" ", "").partition("->")
        operands = left.split(",")
        if not arrow or len(operands) != 2 or "." in equation or any(len(set(o)) < len(o) for o in (*operands, output)):
            return None
        weight, data = operands[position], operands[1 - position]
        summed = [i for i in weight if i in data and i not in output]
        new = [i for i in weight if i in output and i not in data]
        kept = [i for i in data if i not in summed]
        if len(summed) != 1 or len(new) != 1 or len(weight) != 2 or sorted(output) != sorted([*kept, *new]):
            return None
        return cls(data, weight, output, summed[0], new[0])


class AlignedWeight(LinearWeight):
    """The weight of a linear map whose output has its axes in another order.

    Args:
        seen: A, [rows, ..., summed].
        weight: its value, for the shape.
        order: of the axes of G that makes it [rows, ..., new], as A has them.
        transposed: whether the weight is [summed, new].
    """

    def __init__(self, seen: Tensor, weight: Tensor, order: tuple[int, ...], *, transposed: bool) -> None:
        super().__init__(seen, weight, transposed=transposed)
        self.order = order

    def _flat(self, grad: Tensor, units: int) -> tuple[Tensor, Tensor]:
        return super()._flat(grad.permute(self.order), units)


def _matrix_and_data(call: Call, left: str, right: str) -> None:
    private = [name for name in (left, right) if name in call.private]
    data = call.bound.get(right if private == [left] else left)
    if data is None or len(private) != 1 or call.bound[private[0]].dim() != 2 or data.dim() < 2:
        raise _not_linear(call)


def _weight(call: Call, name: str, sides: tuple[str, str], output: Tensor, scale: float = 1.0) -> Term:
    """The matrix `name`, right of the data ([d, p]) or left of them ([p, d])."""
    on_the_left = name == sides[0]
    axis, dims, weight = call.layout.axis, output.dim(), call.bound[name]
    data = call.bound[sides[1] if on_the_left else sides[0]].detach()
    if axis == (dims - 2 if on_the_left else dims - 1):
        raise _not_linear(call)
    seen = rows_first(data * scale if scale != 1.0 else data, call.layout)
    if not on_the_left:
        return LinearWeight(seen, weight, transposed=True)
    if axis == dims - 1:  # [d, rows]: with rows first, features are last
        return AlignedWeight(seen, weight, tuple(range(dims)), transposed=False)
    behind = tuple(range(dims - 2))
    return AlignedWeight(seen.transpose(-1, -2), weight, (*behind, dims - 1, dims - 2), transposed=False)


def _not_linear(call: Call) -> UnsupportedModel:
    return UnsupportedModel(
        f"Expected a product of data with one matrix at {call.function.__name__}, got another one.",
        remedy="The fallback differentiates it row by row.",
    )
