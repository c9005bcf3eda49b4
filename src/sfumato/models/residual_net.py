"""Residual network with the stem and head of the ODE and SDE networks: what those are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.models.continuous import SteadyFamily, parameter_count
from sfumato.models.resnet import HE2016
from sfumato.sde.drifts.convolutional import group_norm
from sfumato.validate import at_least

WIDEST = 4096


@dataclass(frozen=True, kw_only=True)
class ResidualNet(SteadyFamily):
    """A stem, residual blocks of the drift's layers (without time input, each with its own weights), and a head.

    One block is what one Euler step of length 1 would be. See `SteadyFamily` for the other fields.

    Args:
        blocks: how many.
    """

    name: ClassVar[str] = "residual-net"
    reference: ClassVar[str] = "he2016deep"
    bibtex: ClassVar[str] = HE2016

    blocks: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("blocks", self.blocks, 1)

    def body(self, state: tuple[int, ...]) -> list[nn.Module]:
        branch = _convolutional if len(state) == 3 else _dense
        return [SteadyBlock(branch(state[0])) for _ in range(self.blocks)]


class SteadyBlock(nn.Module):
    """x + branch(x), with nothing behind the sum.

    Args:
        branch: keeps the shape.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, *state] to the same."""
        return x + self.branch(x)


def matched(parameters: int, shape: tuple[int, ...], outputs: int, blocks: int = 6) -> ResidualNet:
    """The residual network whose number of parameters is nearest to a given one, by its channels (or its width).

    Args:
        parameters: the number to meet, e.g. `parameter_count(ODENet(...), shape, outputs)`.
        shape: of one record.
        outputs: number of logits.
        blocks: of the network.

    Raises:
        UsageError: if even the widest network tried has fewer.
    """
    side = "channels" if len(shape) == 3 else "width"

    def sized(size: int) -> ResidualNet:
        return replace(ResidualNet(blocks=blocks), **{side: size})

    low, high = 1, WIDEST
    if parameter_count(sized(high), shape, outputs) < parameters:
        raise UsageError(
            f"Expected at most {parameter_count(sized(high), shape, outputs)} parameters to match, got {parameters}.",
            remedy="Use more `blocks`.",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameter_count(sized(middle), shape, outputs) <= parameters else (low, middle)
    return min(sized(low), sized(high), key=lambda net: abs(parameter_count(net, shape, outputs) - parameters))


def _convolutional(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [group_norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
    return nn.Sequential(*layers, group_norm(channels))


def _dense(width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
