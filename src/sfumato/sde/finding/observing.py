"""Running a network once on a few rows, and writing down how its modules were called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_map

from sfumato.errors import UsageError

SIDES = (32, 28, 16, 8, 64, 224)
LENGTHS = (16, 8, 128)
ROWS = 2


class Call(NamedTuple):
    """The first call of a module: its arguments as they came, its output, and when it was over (a running number)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    finished: int


def observe(model: nn.Module, example: Any) -> dict[str, Call]:
    """First calls by module name, of a pass in eval mode that leaves the network, its modes and torch's draws alone.

    Args:
        model: any network.
        example: a batch as it takes it: a tensor, a tuple of arguments, or a mapping of keywords.

    Raises:
        UsageError: if the network does not run on it.
    """
    calls: dict[str, Call] = {}
    came: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    def before(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        came.setdefault(name, []).append((_copied(args), _copied(kwargs)))

    def after(name: str, output: Any) -> None:
        args, kwargs = came[name].pop()
        calls.setdefault(name, Call(args, kwargs, _copied(output), len(calls)))

    hooks = []
    for name, part in model.named_modules():
        hooks += [
            part.register_forward_pre_hook(lambda _, a, k, name=name: before(name, a, k), with_kwargs=True),
            part.register_forward_hook(lambda _, __, output, name=name: after(name, output)),
        ]
    try:
        with at_rest(model):
            _run(model, example)
    except Exception as error:
        raise UsageError(
            f"Expected a network that runs on the example, got {type(error).__name__}: {error}.",
            remedy="Give `example`: a batch of two or more rows as the network takes it.",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return calls


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, a fork of torch's draws; every module's own mode is put back."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def made_up(model: nn.Module, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Two rows that the network runs on: of the given shape, or of one that its first layer suggests.

    Raises:
        UsageError: if it runs on none of them.
    """
    first = next(model.parameters(), torch.zeros(()))
    draws = torch.Generator().manual_seed(0)
    for candidate in [(ROWS, *shape)] if shape is not None else _suggested(model):
        batch = torch.randn(candidate, generator=draws).to(first)
        if shape is None and isinstance(_first_layer(model), nn.Embedding):
            batch = torch.zeros(candidate, dtype=torch.int64, device=first.device)
        try:
            with at_rest(model):
                model(batch)
        except Exception:  # the network says in its own way that it takes another shape
            continue
        return batch
    raise UsageError(
        f"Expected a network that runs on {'rows of shape ' + str(shape) if shape else 'a made-up batch'}, got "
        f"{type(model).__name__}, which does not.",
        remedy="Give `example`: a batch of two or more rows as the network takes it.",
    )


def _suggested(model: nn.Module) -> list[tuple[int, ...]]:
    layer = _first_layer(model)
    if isinstance(layer, nn.Linear):
        return [(ROWS, layer.in_features), *((ROWS, length, layer.in_features) for length in LENGTHS)]
    if isinstance(layer, nn.LayerNorm):
        return [(ROWS, *layer.normalized_shape), *((ROWS, length, *layer.normalized_shape) for length in LENGTHS)]
    if isinstance(layer, nn.Embedding):
        return [(ROWS, length) for length in LENGTHS]
    if isinstance(layer, nn.MultiheadAttention):
        return [(ROWS, length, layer.embed_dim) for length in LENGTHS]
    channels = next(
        (int(getattr(layer, n)) for n in ("in_channels", "num_features", "num_channels") if hasattr(layer, n)), 0
    )
    return [(ROWS, channels, *(side,) * axes) for axes in (2, 1, 3, 0) for side in SIDES] if channels else []


def _first_layer(model: nn.Module) -> nn.Module | None:
    return next((part for part in model.modules() if any(True for _ in part.parameters(recurse=False))), None)


def _run(model: nn.Module, example: Any) -> None:
    if isinstance(example, dict):
        model(**example)
    else:
        model(*(example if isinstance(example, (tuple, list)) else (example,)))


def _copied(value: Any) -> Any:
    """In-place operations downstream must not change what was seen."""
    return tree_map(lambda part: part.clone() if isinstance(part, torch.Tensor) else part, value)
