"""What the trainings of generators share: batches in a seeded order, a step that cannot go wrong unseen, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from sfumato.attacks.inversion.evidence import Tell
from sfumato.data.population import Population
from sfumato.errors import NotApplicable, StoreMismatch
from sfumato.seeding import Name, torch_stream
from sfumato.types import Floats

REPORTS = 10  # lines of progress in a training
LEAST_BATCH = 2  # records; normalisation over one record says nothing


def all_records(public: Population) -> torch.Tensor:
    """float32 [n, *shape]."""
    return public.tensor(np.arange(len(public)))


def batches(count: int, size: int, seed: int, *names: Name) -> Iterator[torch.Tensor]:
    """Positions int64 [size] without end: each pass in a fresh random order, its incomplete last batch left out.

    Fewer records than `size` are one batch.

    Raises:
        NotApplicable: if there are fewer than two records.
    """
    if count < LEAST_BATCH:
        raise NotApplicable(f"needs at least {LEAST_BATCH} records to train on, got {count}")
    size, passes = min(size, count), 0
    while True:
        order = torch.randperm(count, generator=torch_stream(seed, *names, passes))
        for first in range(0, count - size + 1, size):
            yield order[first : first + size]
        passes += 1


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor, where: str) -> None:
    """One step of the optimiser's own parameters; gradients of other networks in the loss are not even computed.

    Args:
        optimizer: all of its parameters are in the loss.
        loss: scalar.
        where: for the error.

    Raises:
        NotApplicable: if the loss is not finite.
    """
    if not bool(torch.isfinite(loss.detach())):
        raise NotApplicable(
            f"needs a training that converges: the loss of {where} was {float(loss.detach())}; a lower learning rate "
            "or another prior may help"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()


def report(tell: Tell, what: str, step: int, steps: int, loss: torch.Tensor) -> None:
    """Tell how far a training is, at most `REPORTS` times; `step` counts from 0."""
    if (step + 1) % max(1, steps // REPORTS) == 0:
        tell(f"{what}: step {step + 1} of {steps}, loss {float(loss.detach()):.3g}")


def arrays_of(modules: Mapping[str, nn.Module]) -> dict[str, Floats]:
    """float32 arrays `part.name` of all weights and buffers."""
    return {
        f"{part}.{name}": value.detach().cpu().numpy().astype(np.float32)
        for part, module in modules.items()
        for name, value in module.state_dict().items()
    }


def restored(module: nn.Module, arrays: Mapping[str, Floats], part: str) -> nn.Module:
    """The module with the weights of a part, in eval mode; none of them needs a gradient.

    Raises:
        StoreMismatch: if the arrays are not those of such a network.
    """
    prefix = f"{part}."
    state = {
        name.removeprefix(prefix): torch.from_numpy(np.array(value))
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise StoreMismatch(
            f"Expected the weights of the {part}, got others: {str(error).splitlines()[-1].strip()}",
            remedy="Make the generator again with the fields it is loaded with.",
        ) from error
    return module.eval().requires_grad_(False)
