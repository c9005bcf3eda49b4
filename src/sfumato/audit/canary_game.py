"""Two worlds that differ by one unit whose gradient is known: what an audit of a private session plays with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.accounting.adjacency import Adjacency
from sfumato.errors import UsageError
from sfumato.private.plan import Plan
from sfumato.private.session import Loss
from sfumato.types import Rows

OVERSHOOT = 100.0  # norm of the canary's gradient over the clip bound
WITHIN = 0.999  # the same, for methods that leave out gradients above the bound


class CanaryNet(nn.Module):
    """Two scores added up: of a linear layer that all units use, and of a table whose second row is the canary's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1, bias=False)
        self.table = nn.Embedding(2, 2)

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """[rows, 8] and [rows] to [rows]."""
        return self.layer(x)[:, 0] + self.table(index).sum(dim=1)


@dataclass(frozen=True, eq=False)
class CanaryGame:
    """Network, loss and records of the two worlds. The audit scales the gradients; only their directions count.

    Args:
        model: makes the network; it is called with the same random numbers each time.
        loss: model and tensors of some rows to one loss per row, [rows].
        others: tensors [units, ...] of the units in both worlds, one record each.
        canary: tensors [records, ...] of the one unit that makes the difference.
        scale_of_others: their losses' weight over the canary's; negative to point the other way. So that a sum that is
            clipped as a whole shows, all others together stay shorter than the canary.
    """

    model: Callable[[], nn.Module]
    loss: Loss
    others: tuple[torch.Tensor, ...]
    canary: tuple[torch.Tensor, ...]
    scale_of_others: float = -2.0 / OVERSHOOT

    def made(self) -> nn.Module:
        """The network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.model()


def canary_game(units: int = 8, *, opposite: bool = True) -> CanaryGame:
    """The audit's own game, on `CanaryNet`.

    Args:
        units: in both worlds.
        opposite: whether the others point against the canary in the layer, so that whatever depends on their number
            shows at its worst; else they stand at right angles, so that who was drawn does not blur the scores.
    """
    x = torch.ones(units, 8)
    if not opposite:
        x[:, ::2] = -1.0
    others = (x, torch.zeros(units, dtype=torch.int64))
    return CanaryGame(CanaryNet, _output, others, (torch.ones(1, 8), torch.ones(1, dtype=torch.int64)))


def _output(model: nn.Module, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return model(x, index)


class Canary(NamedTuple):
    """The weight of the canary's loss, and its clipped gradient in float64 by parameter, where it has one."""

    weight: float
    clipped: dict[str, torch.Tensor]


def canary_of(game: CanaryGame, plan: Plan) -> Canary:
    """By ordinary autograd on the canary's records alone: nothing of what a session computes is used.

    Raises:
        UsageError: if the canary has no gradient, or none that is finite.
    """
    gradients = _gradients(game)
    squared = torch.stack([gradient.square().sum() for gradient in gradients.values()])[None]
    norm = float(squared.sum().sqrt())
    if not 0 < norm < math.inf:
        raise UsageError(f"Expected a canary with a gradient, got one of norm {norm}.", remedy="Choose another record.")
    state = plan.clipping.initial_state(len(gradients))
    bound = plan.clipping.sensitivity(state, len(gradients))
    for length in (OVERSHOOT, WITHIN):
        weight = length * bound / norm
        factors = plan.clipping.factors(squared * weight**2, state)[0]
        if factors.any():
            break
    clipped = {name: g * weight * factors[index] for index, (name, g) in enumerate(gradients.items())}
    return Canary(weight, {name: g for name, g in clipped.items() if g.any()})


def _gradients(game: CanaryGame) -> dict[str, torch.Tensor]:
    model = game.made()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = game.loss(model, *game.canary).mean()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return {name: gradient.double() for name, gradient in zip(parameters, found, strict=True)}


class Records(NamedTuple):
    """Tensors [records, ...], the last one the weights of their losses, and the unit [records] of each, int64."""

    tensors: tuple[torch.Tensor, ...]
    unit_of: Rows


def records(game: CanaryGame, weight: float, adjacency: Adjacency, *, canary_in: bool) -> Records:
    """The records of a world. A canary that is out is absent, or opposite, or nothing, as neighbours differ."""
    others, own = len(game.others[0]), len(game.canary[0])
    weights = torch.full((others + own,), weight * game.scale_of_others)
    weights[others:] = weight
    if not canary_in:
        weights[others:] *= -1.0 if adjacency is Adjacency.REPLACE_ONE else 0.0
    kept = others if adjacency is Adjacency.ADD_OR_REMOVE_ONE and not canary_in else others + own
    joined = [torch.cat(pair) for pair in zip(game.others, game.canary, strict=True)]
    unit_of = np.minimum(np.arange(others + own, dtype=np.int64), others)
    return Records(tuple(tensor[:kept] for tensor in (*joined, weights)), unit_of[:kept])
