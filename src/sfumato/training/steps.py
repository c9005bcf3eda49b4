"""What the ordinary and the private loop share: optimiser, schedule, average of weights, cost of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from sfumato.errors import SfumatoError
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


def ema_decay(task: Task, step: int) -> float:
    """How much of the average of weights is kept in step 0, 1, ..., in [0, 1]; 0 where the task keeps no average."""
    decay = task.ema or 0.0
    return min(decay, (1 + step) / (10 + step)) if task.ema_warmup else decay


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimiser as tensors for a checkpoint, by position of the parameter."""
    found: dict[str, torch.Tensor] = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            found |= {f"{prefix}{index}.{key}": value} if isinstance(value, torch.Tensor) else {}
    return found


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Inverse of `optimizer_tensors`."""
    for index, parameter in enumerate(_parameters(optimizer)):
        own = f"{prefix}{index}."
        state = {key[len(own) :]: value for key, value in tensors.items() if key.startswith(own)}
        if state:
            optimizer.state[parameter] = state


def tensors_of(parts: Mapping[str, nn.Module | torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """The state of modules and optimisers by name, for a checkpoint."""
    found: dict[str, torch.Tensor] = {}
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            found |= {f"kept.{name}.{key}": value for key, value in part.state_dict().items()}
        else:
            found |= optimizer_tensors(f"kept.{name}.", part)
    return found


def put_back(parts: Mapping[str, nn.Module | torch.optim.Optimizer], tensors: Mapping[str, torch.Tensor]) -> None:
    """Inverse of `tensors_of`."""
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            part.load_state_dict({key: tensors[f"kept.{name}.{key}"] for key in part.state_dict()})
        else:
            restore_optimizer(f"kept.{name}.", part, tensors)


def add_l1(parameters: Iterable[nn.Parameter], strength: float) -> None:
    """Add the subgradient of `strength` times the sum of absolute values. It sees no record: it costs no privacy."""
    if strength:
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.sign(), alpha=strength)


def refuse_infinite(loss: float, epoch: int) -> None:
    """Refuse a mean loss that is not finite; `epoch` counts from 0."""
    if not math.isfinite(loss):
        raise SfumatoError(
            f"Expected a finite training loss, got {loss} in epoch {epoch + 1}.",
            remedy="Lower the learning rate, or standardise the inputs (`standardise=True`).",
        )


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
