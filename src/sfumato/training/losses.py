"""Per-example losses from logits and soft targets, for the two kinds of head."""

from __future__ import annotations

import torch
from torch.nn.functional import log_softmax, softplus

from sfumato.errors import UsageError
from sfumato.training.defence import PerExampleLoss
from sfumato.validate import one_of

HEADS = ("multiclass", "binary")


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against soft labels, in nats: minus the sum over classes of target times log-probability.

    Args:
        logits: [rows, classes].
        targets: [rows, classes], each row sums to 1.

    Returns:
        [rows].
    """
    _refuse_shapes(logits, targets, columns=targets.shape[-1])
    return -(targets * log_softmax(logits, dim=1)).sum(dim=1)


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a one-logit head, in nats; the logit is the log-odds of class 1.

    Args:
        logits: [rows, 1].
        targets: [rows, 2], each row sums to 1.

    Returns:
        [rows].
    """
    _refuse_shapes(logits, targets, columns=1)
    if targets.shape[1] != 2:
        raise UsageError(
            f"Expected soft labels of two classes for a one-logit head, got {targets.shape[1]}.",
            remedy='Use head="multiclass" for more classes.',
        )
    return targets[:, 0] * softplus(logits[:, 0]) + targets[:, 1] * softplus(-logits[:, 0])


def task_loss(head: str) -> PerExampleLoss:
    """The loss of a head without any defence: "multiclass" or "binary"."""
    one_of("head", head, HEADS)
    return cross_entropy if head == "multiclass" else binary_cross_entropy


def two_column(logits: torch.Tensor, head: str) -> torch.Tensor:
    """One column per class: a one-logit output z [rows, 1] becomes [0, z], other logits stay as they are."""
    one_of("head", head, HEADS)
    if head == "multiclass":
        return logits
    _refuse_shapes(logits, logits, columns=1)
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def log_probabilities(outputs: torch.Tensor) -> torch.Tensor:
    """[rows, classes] from the outputs of either head; a single column is taken as the one-logit head's."""
    return log_softmax(two_column(outputs, "binary" if outputs.shape[1] == 1 else "multiclass"), dim=1)


def _refuse_shapes(logits: torch.Tensor, targets: torch.Tensor, columns: int) -> None:
    if logits.dim() == 2 and targets.dim() == 2 and logits.shape[0] == targets.shape[0] and logits.shape[1] == columns:
        return
    raise UsageError(
        f"Expected logits of shape ({targets.shape[0]}, {columns}), got {tuple(logits.shape)} "
        f"with targets {tuple(targets.shape)}.",
        remedy="Let the network end in one logit per class, or in one logit for the binary head.",
    )
