"""Per-example gradients by `torch.func.vmap(grad)`, for the whole batch or some examples at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from rivals.networks import Batch
from rivals.plain import Settings, Step, factors, release

PerExample = Callable[[dict[str, torch.Tensor], torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


def per_example_gradients(model: nn.Module) -> PerExample:
    """A function of (parameters, x, y) to a dictionary of gradients [batch, ...]."""
    buffers = dict(model.named_buffers())

    def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scores = functional_call(model, {**parameters, **buffers}, (x.unsqueeze(0),))
        return F.cross_entropy(scores, y.unsqueeze(0))

    return vmap(grad(loss), in_dims=(None, 0, 0))


def vmap_step(model: nn.Module, batch: Batch, settings: Settings, chunk: int | None = None) -> Step:
    """The private step by vmap, `chunk` examples at a time: clipped and added before the next ones."""
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)
    gradients_of = per_example_gradients(model)
    parameters = dict(model.named_parameters())
    size = len(batch.y)

    def step() -> None:
        held = {name: parameter.detach() for name, parameter in parameters.items()}
        sums: list[torch.Tensor] = []
        for x, y in zip(batch.x.split(chunk or size), batch.y.split(chunk or size), strict=True):
            clipped = clipped_sum(gradients_of(held, x, y), settings.max_grad_norm)
            sums = [total.add_(more) for total, more in zip(sums, clipped, strict=True)] if sums else clipped
        release(parameters.values(), sums, size, settings)
        optimizer.step()

    return step


def clipped_sum(gradients: dict[str, torch.Tensor], max_grad_norm: float) -> list[torch.Tensor]:
    """Sums [...] of the clipped gradients [batch, ...]."""
    flat = [g.reshape(g.shape[0], -1) for g in gradients.values()]
    norms = torch.stack([torch.linalg.vector_norm(g, dim=1) for g in flat]).norm(dim=0)
    weights = factors(norms, max_grad_norm)
    return [(weights @ f).view(g.shape[1:]) for f, g in zip(flat, gradients.values(), strict=True)]
