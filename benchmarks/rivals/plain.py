"""What every way shares: its settings, the ordinary step, the loop of single examples, clipping, and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from rivals.networks import Batch

Step = Callable[[], None]


@dataclass(frozen=True)
class Settings:
    """What a private step is asked for.

    Args:
        fastdp: folder of a FastDP checkout, or None.
    """

    max_grad_norm: float = 1.0
    noise_multiplier: float = 1.0
    lr: float = 1e-3
    fastdp: str | None = None


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in order."""
    return [p for p in model.parameters() if p.requires_grad]


def plain_step(model: nn.Module, batch: Batch, settings: Settings) -> Step:
    """Ordinary SGD on the mean loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch.x), batch.y).backward()
        optimizer.step()

    return step


def factors(norms: torch.Tensor, max_grad_norm: float) -> torch.Tensor:
    """min(1, max_grad_norm / norm) of each example (Abadi et al., 2016, algorithm 1)."""
    return (max_grad_norm / norms.clamp_min(1e-30)).clamp_max(1.0)


def release(parameters: Iterable[nn.Parameter], sums: Iterable[torch.Tensor], size: int, settings: Settings) -> None:
    """Put (clipped sum + noise) / size into `.grad`; the noise is torch's ordinary normal."""
    deviation = settings.noise_multiplier * settings.max_grad_norm
    for parameter, total in zip(parameters, sums, strict=True):
        noise = torch.normal(0.0, deviation, total.shape, device=total.device) if deviation else 0.0
        parameter.grad = total.add_(noise).div_(size)


def single_gradients(model: nn.Module, batch: Batch, index: int) -> tuple[torch.Tensor, ...]:
    """The gradient of the loss of example `index` alone."""
    loss = F.cross_entropy(model(batch.x[index : index + 1]), batch.y[index : index + 1])
    return torch.autograd.grad(loss, trainable(model))


def norm_of(gradients: Iterable[torch.Tensor]) -> torch.Tensor:
    """Norm of one example's whole gradient, []."""
    return torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm()


def single_norms(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Gradient norms [batch] of the single examples."""
    return torch.stack([norm_of(single_gradients(model, batch, i)) for i in range(len(batch.y))])


def clipped_sum_one_by_one(model: nn.Module, batch: Batch, max_grad_norm: float) -> list[torch.Tensor]:
    """The sum of the clipped gradients by definition: one example after the other."""
    sums = [torch.zeros_like(p) for p in trainable(model)]
    for index in range(len(batch.y)):
        gradients = single_gradients(model, batch, index)
        factor = float(factors(norm_of(gradients), max_grad_norm))
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient, alpha=factor)
    return sums


def one_by_one_step(model: nn.Module, batch: Batch, settings: Settings) -> Step:
    """The private step as a loop over single examples."""
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)

    def step() -> None:
        sums = clipped_sum_one_by_one(model, batch, settings.max_grad_norm)
        release(trainable(model), sums, len(batch.y), settings)
        optimizer.step()

    return step
