"""What the ordinary and the private loop share: optimiser, schedule, average of weights, cost of a step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from sfumato.training.task import Optimizer, Task


class StepTimes(NamedTuple):
    """Seconds of set-up and of one step of the whole stack (median), steps an epoch, and epochs at most."""

    setup: float
    step: float
    steps: int
    epochs: int

    @property
    def seconds(self) -> float:
        """Of the whole training of the stack, if it runs to the last epoch."""
        return self.setup + self.step * self.steps * self.epochs


class Swap:
    """Puts the averaged weights in place for a while; without an average it does nothing."""

    def __init__(self, parameters: list[nn.Parameter], average: list[torch.Tensor]) -> None:
        self.parameters, self.average = parameters, average

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_: object) -> None:
        self._exchange()

    def _exchange(self) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.average, strict=False):
                kept = parameter.detach().clone()
                parameter.copy_(value)
                value.copy_(kept)


def optimizer_of(spec: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser over these parameters."""
    if spec.name == "sgd":
        return torch.optim.SGD(
            parameters, spec.lr, spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.nesterov, fused=True
        )
    kind = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
    return kind(parameters, spec.lr, weight_decay=spec.weight_decay, fused=True)


def rate_factor(task: Task, done: float) -> float:
    """What the schedule multiplies the learning rate by when a share `done` of the steps, in [0, 1), lies behind."""
    factor = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done))}.get(task.schedule)
    if factor is None:
        factor = 1.0 if done < 0.5 else (0.1 if done < 0.75 else 0.01)
    return factor
