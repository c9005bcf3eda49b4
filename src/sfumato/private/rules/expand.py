"""A parameter repeated along the batch axis: one class token, or learned query, for each row."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.private.rules.base import Call, Function, Outcome, Rule
from sfumato.private.rules.broadcast import BroadcastSum


class Expand(Rule):
    """`expand`, `expand_as`, `broadcast_to`, `repeat` and `tile`: from there on the copies are data, one per row."""

    name = "expand"

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        return (
            Tensor.expand, Tensor.expand_as, torch.broadcast_to, Tensor.broadcast_to,
            Tensor.repeat, torch.tile, Tensor.tile,
        )  # fmt: skip

    def bind(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:  # type: ignore[override]
        named = {"input": args[0]} if args else {}
        return named | {str(position): value for position, value in enumerate(args[1:])} | kwargs

    def apply(self, call: Call) -> Outcome:
        output = call.run()
        shape = call.bound["input"].shape
        terms = {name: BroadcastSum(shape, call.layout, output.dim()) for name in call.private if name == "input"}
        return Outcome(output, dict(terms))
