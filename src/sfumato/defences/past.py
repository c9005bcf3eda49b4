"""PAST: privacy-aware sparsity tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sfumato.defences.reference_batches import reference_batch, seen_beside
from sfumato.training.defence import ReferenceDefence
from sfumato.training.loop import Hooks, Step
from sfumato.training.workshop import Workshop
from sfumato.validate import at_least, one_of, positive

PENALTIES = ("l1", "l2")


@dataclass(frozen=True, kw_only=True)
class PAST(ReferenceDefence):
    """Trains as usual, then goes on with a penalty on each weight that grows with what the weight gives away.

    In the second part the gradient of weight j gets strength * clamp((gap_j / mean gap)^power, 0, cap) * sign(w_j),
    where gap_j is the distance between its gradients on a batch of training records and on one of reference records,
    and the mean is over the tensor that it belongs to (Hu et al., 2024, as in the authors' code). Only tensors called
    `weight` are penalised, so biases are not. The gradients are those of the objective of the inner defence, which for
    an undefended network is cross-entropy. Batch normalisation takes its running statistics from both kinds of batches
    there.

    Args:
        strength: of the penalty, at least 0.
        power: to which the relative gap is raised, at least 0; at 0 all weights are penalised alike.
        cap: on the raised gap, above 0.
        penalty: "l1", or "l2", which has 2 w_j in place of sign(w_j).
        tuning_epochs: of the second part; None for half of the task's, as 50 after 100 in the authors' code.
        tuning_lr: learning rate at the start of the second part.
    """

    name: ClassVar[str] = "past"
    reference: ClassVar[str] = "hu2024past"
    summary: ClassVar[str] = "Fine-tunes with a sparsity penalty on the weights that tell members from others."
    bibtex: ClassVar[str] = """@misc{hu2024past,
  author = {Hu, Qiang and Zhang, Hengxiang and Wei, Hongxin},
  title = {Defending Membership Inference Attacks via Privacy-aware Sparsity Tuning},
  year = {2024},
  note = {arXiv:2410.06814}
}"""
    couples: ClassVar[str] = "its penalty is computed from the gradients of a whole batch and of reference records"

    strength: float = 1e-5
    power: float = 4.0
    cap: float = 1e4
    penalty: str = "l1"
    tuning_epochs: int | None = None
    tuning_lr: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("strength", self.strength, 0)
        at_least("power", self.power, 0)
        positive("cap", self.cap)
        one_of("penalty", self.penalty, PENALTIES)
        if self.tuning_epochs is not None:
            at_least("tuning_epochs", self.tuning_epochs, 1)
        positive("tuning_lr", self.tuning_lr)

    @property
    def trainings(self) -> float:
        return 2.0  # half of the epochs again, at twice the price

    def course(self, workshop: Workshop) -> nn.Module:
        network = workshop.fit("ordinary", workshop.network())
        weights = penalised(network)

        def backward(step: Step) -> torch.Tensor:
            loss = workshop.objective(step.seen).mean()
            loss.backward()
            seen = seen_beside(workshop, step, reference_batch(workshop, len(step.rows), step.draws))
            other = workshop.objective(seen).mean()
            theirs = torch.autograd.grad(other, weights, allow_unused=True)
            for weight, gradient in zip(weights, theirs, strict=True):
                if weight.grad is not None and gradient is not None:
                    gap = (weight.grad - gradient).abs()
                    added = sparsity_gradient(weight.detach(), gap, self.power, self.cap, self.penalty)
                    weight.grad.add_(added, alpha=self.strength)
            return loss.detach()

        epochs = self.tuning_epochs or max(1, round(workshop.task.epochs / 2))
        hooks = Hooks(backward=backward)
        return workshop.fit("tuning", network, epochs=epochs, lr=self.tuning_lr, hooks=hooks)


def penalised(network: nn.Module) -> list[nn.Parameter]:
    """The parameters called `weight` that are trained, in the network's order."""
    return [p for name, p in network.named_parameters() if p.requires_grad and name.rpartition(".")[2] == "weight"]


def sparsity_gradient(
    weight: torch.Tensor, gap: torch.Tensor, power: float, cap: float, penalty: str = "l1"
) -> torch.Tensor:
    """What the penalty of strength 1 adds to the gradient of one tensor of weights.

    Args:
        weight: any shape.
        gap: of the same shape, at least 0: distance between the gradients of members and of non-members. Where it is 0
            everywhere, it counts as 0 times its mean.
        power: see `PAST`.
        cap: see `PAST`.
        penalty: "l1" or "l2".
    """
    mean = gap.mean()
    relative = torch.where(mean > 0, gap / mean, torch.zeros_like(gap))
    slope = weight.sign() if penalty == "l1" else 2 * weight
    return relative.pow(power).clamp(0, cap) * slope
