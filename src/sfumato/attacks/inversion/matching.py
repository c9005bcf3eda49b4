"""What gradient inversion by matching has in common: the attacker's own copy of the network, and its gradients.

The attacker computes the gradient of made-up records, and moves them until it looks like the one that was shared. That
takes second derivatives of the network. Those of ReLU and of max-pooling are zero almost everywhere, so that such
networks give matching less to hold on to; smooth activations (sigmoid, tanh) give more. It runs on both.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sfumato.attacks.inversion.base import Reconstructions
from sfumato.attacks.inversion.evidence import GradientEvidence, PrivateStep, StepLoss
from sfumato.attacks.inversion.label_recovery import Labels, class_signal, recovered_labels
from sfumato.errors import UnsupportedModel
from sfumato.models.head import head_name
from sfumato.private.clipping.base import Clipping
from sfumato.sde.streams import set_noise, stream_layers
from sfumato.targets.boundary import Box
from sfumato.training.losses import task_loss
from sfumato.types import Floats, Ints

SMALLEST = 1e-30  # of a squared norm: the root has no slope at 0


@dataclass(frozen=True, eq=False)
class Copy:
    """The attacker's copy of the network, from whose gradients those of made-up records come.

    Args:
        network: with the weights of the step, its own noise and dropout off.
        names: of the parameters that the update is about, in order.
        loss: see `GradientEvidence.loss`.
        dtype: in which it computes.
        private: how the training clips and divides, so that the copy does the same; None where it does not.
    """

    network: nn.Module
    names: tuple[str, ...]
    loss: StepLoss
    dtype: torch.dtype
    private: PrivateStep | None = None

    def gradients(self, x: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
        """The gradient of the mean loss by each parameter, itself differentiable by records and soft labels.

        Where the training clips, the mean of the clipped gradients: a copy that does not clip looks for records that
        nobody has, and its failure would look like a merit of the noise.

        Args:
            x: [b, *shape].
            targets: [b, classes], soft labels.
        """
        set_noise(self.network, None, "off")
        own = dict(self.network.named_parameters())
        losses, parameters = self.loss(self.network, x, targets), [own[name] for name in self.names]
        if self.private is None:
            return _by(losses.mean(), parameters)
        units = [losses.mean()] if self.private.together else list(losses)
        return _clipped_mean([_by(loss, parameters) for loss in units], self.private.clipping)

    def shared(self, update: Mapping[str, torch.Tensor], size: int) -> list[torch.Tensor]:
        """An update of a batch of `size` records as tensors of the copy's type, in order, on the scale of `gradients`.

        A private one was divided by a public number, whatever was drawn; what counts here is what it is of one unit.
        """
        scale = 1.0
        if self.private is not None:
            scale = self.private.divisor / (1 if self.private.together else size)
        return [update[name].detach().to(self.dtype) * scale for name in self.names]


def _by(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The gradient of a loss, itself differentiable; 0 where a parameter is not used."""
    return list(
        torch.autograd.grad(loss, list(parameters), create_graph=True, allow_unused=True, materialize_grads=True)
    )


def _clipped_mean(gradients: Sequence[Sequence[torch.Tensor]], clipping: Clipping) -> list[torch.Tensor]:
    """The mean over units of their gradients, [units][tensors], each scaled as the training scales it."""
    squared = torch.stack([torch.stack([part.square().sum() for part in one]) for one in gradients])
    factors = clipping.factors(squared + SMALLEST, clipping.initial_state(squared.shape[1]))
    return [
        torch.stack([factor * part for factor, part in zip(factors[:, place], parts, strict=True)]).mean(dim=0)
        for place, parts in enumerate(zip(*gradients, strict=True))
    ]


def cross_entropy_of(network: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[b]: the cross-entropy of records [b, *shape] against soft labels [b, classes], of either kind of head."""
    outputs = network(x)
    return task_loss("binary" if outputs.shape[1] == 1 else "multiclass")(outputs, targets)


def copy_of(evidence: GradientEvidence, dtype: torch.dtype = torch.float32) -> Copy:
    """A copy that computes in `dtype`; the network of the evidence stays as it is."""
    network = copy.deepcopy(evidence.network).to(dtype)
    for layer in stream_layers(network):
        layer.eval()  # the masks of the step are not known
    update = evidence.updates[0] if evidence.updates else {}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in update)
    names = tuple(name for name, _ in network.named_parameters() if name in update)
    return Copy(network, names, evidence.loss or cross_entropy_of, dtype, evidence.private)


def why_no_labels(evidence: GradientEvidence) -> str:
    """Why labels can be neither known nor read off, or ""."""
    if evidence.labels is not None:
        return ""
    try:
        head = head_name(evidence.network)
    except UnsupportedModel as error:
        return f"needs labels, or a network that ends in a linear layer to read them off: {error.message}"
    named = all(f"{head}.weight".lstrip(".") in update for update in evidence.updates)
    return "" if named else "needs labels, or the gradient of the last linear layer to read them off"


def labels_of(evidence: GradientEvidence, step: int) -> Labels:
    """The labels of a batch: those that the attacker knows, or what the last layer's gradient tells."""
    size = int(evidence.sizes[step])
    if evidence.labels is not None:
        return Labels(evidence.labels[step, :size].astype(np.int64), certain=True)
    head, update = head_name(evidence.network), evidence.updates[step]
    weight, bias = (update.get(f"{head}.{part}".lstrip(".")) for part in ("weight", "bias"))
    assert weight is not None  # `why_no_labels` was asked
    return recovered_labels(class_signal(_floats(weight), None if bias is None else _floats(bias)), size)


@dataclass(frozen=True, eq=False)
class Guess:
    """One batch as an attack found it.

    Args:
        records: float [size, *shape].
        labels: int64 [size], or None where nothing tells them.
        confidence: float64 [size], higher for surer.
        loss: what was minimised, where it ended.
        queries: records that were put through the copy.
    """

    records: torch.Tensor
    labels: Ints | None
    confidence: Floats
    loss: float
    queries: int


def reconstructions(evidence: GradientEvidence, guesses: list[Guess]) -> Reconstructions:
    """All batches side by side, inside the box; NaN and -1 beyond a batch's size."""
    q, b = len(guesses), int(evidence.sizes.max(initial=0))
    records = np.full((q, b, *evidence.shape), np.nan, dtype=np.float32)
    confidence = np.zeros((q, b))
    labels = np.full((q, b), -1, dtype=np.int64)
    for step, guess in enumerate(guesses):
        size = len(guess.records)
        records[step, :size] = inside(guess.records, evidence.box).detach().float().numpy()
        confidence[step], confidence[step, :size] = guess.confidence.min(), guess.confidence
        labels[step, :size] = -1 if guess.labels is None else guess.labels
    told = evidence.labels is None and all(guess.labels is not None for guess in guesses)
    return Reconstructions(
        records,
        confidence,
        queries=sum(guess.queries for guess in guesses),
        labels=labels if told else None,
        facts={"loss reached": float(np.mean([guess.loss for guess in guesses])) if guesses else 0.0},
    )


def inside(x: torch.Tensor, box: Box) -> torch.Tensor:
    """Records [b, *shape] moved into the box; what is no number becomes the middle of it."""
    low, high = box.low.to(x), box.high.to(x)
    return torch.where(x.isfinite(), x, (low + high) / 2).clamp(low, high)


def one_hot(labels: Ints, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """[b, classes] for int64 [b]."""
    return torch.eye(classes, dtype=dtype)[torch.from_numpy(labels)]


def _floats(tensor: torch.Tensor) -> Floats:
    return tensor.detach().cpu().double().numpy()
