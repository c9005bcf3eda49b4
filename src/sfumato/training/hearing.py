"""What layers inside a network tell the objective of a step: hidden states, or numbers that make a penalty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.training.extras import features_of
from sfumato.training.seen import Seen


class Tap(nn.Module):
    """Hands on what it is given as it is, and tells it to whoever listens (see `heard_from`).

    Args:
        name: under which it is heard, "PART/what".
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.into: dict[str, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, ...] to the same."""
        if self.into is not None:
            before = sum(name.partition(":")[0] == self.name for name in self.into)
            self.into[f"{self.name}:{before}" if before else self.name] = x
        return x

    def extra_repr(self) -> str:
        """Its name, for `print(model)`."""
        return self.name


@contextmanager
def heard_from(network: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """What the taps of a network are given while this is open: name -> [rows, ...], in the order in which they run.

    A tap that runs several times in a pass is heard as NAME, NAME:1, NAME:2.
    """
    taps = [layer for layer in network.modules() if isinstance(layer, Tap)]
    found: dict[str, torch.Tensor] = {}
    for tap in taps:
        tap.into = found
    try:
        yield found
    finally:
        for tap in taps:
            tap.into = None


def passed(network: nn.Module, x: torch.Tensor, seen: Seen, *, inside: nn.Module | None = None) -> Seen:
    """`seen` with outputs, inputs and what layers told, of one forward pass; with features where it asks for them.

    Args:
        network: that is run.
        x: [rows, *shape].
        seen: the step; its outputs count for nothing.
        inside: the part of `network` whose last linear layer has the features; None for all of it. Features are taken
            only where it is given.
    """
    with heard_from(network) as heard:
        if inside is None:
            return replace(seen, outputs=network(x), inputs=x, heard=heard)
        with features_of(inside) as taken:
            outputs = network(x)
    return replace(seen, outputs=outputs, inputs=x, heard=heard, features=taken.last())


def told(seen: Seen, part: str) -> Mapping[str, torch.Tensor]:
    """What the taps of a part told, in the order in which they ran.

    Raises:
        UsageError: if nothing was heard of them.
    """
    found = {name: value for name, value in seen.heard.items() if name.startswith(f"{part}/")}
    if not found:
        raise UsageError(
            f"Expected to hear of the layers that {part} put into the network, got nothing.",
            remedy="Ask for the objective after a pass of a network of this defence, as the training loops do "
            "(`sfumato.training.hearing.passed`).",
        )
    return found
