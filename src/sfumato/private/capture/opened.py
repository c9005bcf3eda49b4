"""Composite functions of torch that are written in Python, opened so that what they call is seen too.

A function mode sees `torch.nn.functional.multi_head_attention_forward` as one call. Its own first line asks whether a
mode is active and hands itself over; a copy that does not ask runs the same code, and the mode sees
the linear maps in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

GUARDS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@cache
def opened(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function without its first question, or None where it is not a Python function that asks."""
    if not isinstance(function, FunctionType):
        return None
    inner = getattr(function, "__wrapped__", function)
    if not isinstance(inner, FunctionType) or not set(GUARDS) & set(inner.__code__.co_names):
        return None
    names = dict(inner.__globals__) | dict.fromkeys(GUARDS, _no)
    copy = FunctionType(inner.__code__, names, inner.__name__, inner.__defaults__, inner.__closure__)
    copy.__kwdefaults__ = inner.__kwdefaults__
    return copy


def _no(*_: object) -> bool:
    return False
