"""How strongly a record still pulls at the weights, and its loss at it: norms of gradients, for whoever has them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.func import functional_call, grad, vmap

from sfumato.training.losses import two_column
from sfumato.training.recipe import ModulePredict

MOST_NUMBERS = 32_000_000  # of gradients at once: 128 MB in float32
MOST_RECORDS = 64  # at once; more are no faster, and take memory for their activations

Parameters = dict[str, torch.Tensor]
Loss = Callable[[Parameters, torch.Tensor, torch.Tensor], torch.Tensor]


def gradient_norms(predict: ModulePredict, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Norm of each record's gradient of the cross-entropy with respect to all parameters of the network.

    Frozen parameters count, too: the attacker has them. Where torch cannot map a layer over records, they are taken
    one at a time.

    Args:
        predict: a network in eval mode that keeps records apart, its noise off.
        x: float [records, *shape].
        labels: int64 [records].

    Returns:
        float64 [records], at least 0.
    """
    parameters = {name: p.detach() for name, p in predict.module.named_parameters()}
    dtype = next((p.dtype for p in parameters.values()), x.dtype)
    inputs, loss = (x if predict.features is None else predict.features(x)).to(dtype), _loss_of(predict)
    numbers = max(1, sum(p.numel() for p in parameters.values()))
    at_once = max(1, min(MOST_RECORDS, MOST_NUMBERS // numbers))
    squares = []
    for here, own in zip(inputs.split(at_once), labels.split(at_once), strict=True):
        try:
            squares.append(_mapped(loss, parameters, here, own))
        except (RuntimeError, NotImplementedError, ValueError):  # what torch raises where it has no rule for a layer
            squares += [_alone(loss, parameters, here[[i]], own[[i]]) for i in range(len(here))]
    return torch.cat(squares).sqrt()


def input_gradient_norms(
    predict: ModulePredict, x: torch.Tensor, labels: torch.Tensor, unit: torch.Tensor
) -> torch.Tensor:
    """Norm of each record's gradient of the cross-entropy with respect to the record, or to its fixed features.

    Args:
        predict: a network in eval mode that keeps records apart, its noise off.
        x: float [records, *shape].
        labels: int64 [records].
        unit: float [*shape], what counts as 1 in each feature; of no account where the network sees fixed features.

    Returns:
        float64 [records], at least 0.
    """
    dtype = next((p.dtype for p in predict.module.parameters()), x.dtype)
    norms = []
    for here, own in zip(x.split(MOST_RECORDS), labels.split(MOST_RECORDS), strict=True):
        inputs = (here if predict.features is None else predict.features(here)).to(dtype).detach()
        with torch.enable_grad():
            logits = two_column(predict.module(inputs.requires_grad_(True)), predict.head)
            loss = torch.nn.functional.cross_entropy(logits, own, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, inputs)
        gradient = gradient * unit if predict.features is None else gradient
        norms.append(gradient.double().flatten(1).norm(dim=1))
    return torch.cat(norms)


def _loss_of(predict: ModulePredict) -> Loss:
    def loss(parameters: Parameters, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = two_column(functional_call(predict.module, parameters, (x,)), predict.head)
        return torch.nn.functional.cross_entropy(logits, label)

    return loss


def _mapped(loss: Loss, parameters: Parameters, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x[:, None], labels[:, None])
    return torch.stack([g.double().flatten(1).square().sum(1) for g in gradients.values()]).sum(0).detach()


def _alone(loss: Loss, parameters: Parameters, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        free = {name: p.clone().requires_grad_(p.is_floating_point()) for name, p in parameters.items()}
        found = torch.autograd.grad(loss(free, x, label), list(free.values()), allow_unused=True)
    return sum((g.double().square().sum() for g in found if g is not None), torch.zeros(())).double().reshape(1)
