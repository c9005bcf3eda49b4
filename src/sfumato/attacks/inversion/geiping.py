"""Inverting gradients: made-up pictures whose gradient points where the shared one does, and that are smooth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from sfumato.attacks.inversion.base import GradientInversion, Reconstructions
from sfumato.attacks.inversion.evidence import GradientEvidence
from sfumato.attacks.inversion.matching import (
    Copy,
    Guess,
    copy_of,
    inside,
    labels_of,
    one_hot,
    reconstructions,
    why_no_labels,
)
from sfumato.seeding import torch_stream
from sfumato.types import Floats
from sfumato.validate import at_least, positive

DECAYS = (3 / 8, 5 / 8, 7 / 8)  # shares of the steps after which they are a tenth as long
TOLD = 100  # steps between progress lines


class _End(NamedTuple):
    loss: float
    x: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Geiping(GradientInversion):
    """Cosine distance of gradients and total variation, by Adam on signs (Geiping et al., NeurIPS 2020, 2003.14053).

    Adam gets the sign of the gradient by the record. The published setting: 24,000 steps of 0.1 that decay, total
    variation 0.1 (the authors' code) or 0.2 (`breaching`), labels known. Here labels that are not known are read off
    the last layer. Where the steps decay is our choice. Records without neighbouring pixels have no total variation.
    It wants second derivatives: it runs on ReLU networks, but finds less there than its number of steps suggests.

    Args:
        iterations: steps; the default is for pictures of 28 x 28 and a small network, in seconds.
        restarts: starting points; the one with the least loss counts.
        lr: length of the first steps, in units of the box.
        tv: weight of the total variation, at least 0. A tenth of the published one: pixels go from 0 to 1 here, and
            small pictures are all edges.
    """

    name: ClassVar[str] = "geiping"
    reference: ClassVar[str] = "geiping2020inverting"
    summary: ClassVar[str] = "Moves smooth made-up pictures until their gradient points where the shared one does."
    bibtex: ClassVar[str] = """@inproceedings{geiping2020inverting,
  author = {Geiping, Jonas and Bauermeister, Hartmut and Dr{\\"o}ge, Hannah and Moeller, Michael},
  title = {Inverting Gradients - How Easy Is It to Break Privacy in Federated Learning?},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}"""

    iterations: int = 600
    restarts: int = 2
    lr: float = 0.1
    tv: float = 0.01

    def __post_init__(self) -> None:
        at_least("iterations", self.iterations, 1)
        at_least("restarts", self.restarts, 1)
        positive("lr", self.lr)
        at_least("tv", self.tv, 0)

    @classmethod
    def example(cls) -> Geiping:
        return cls(iterations=20, restarts=1)

    def refuses(self, evidence: GradientEvidence) -> tuple[str, ...]:
        reason = why_no_labels(evidence)
        return (reason,) if reason else ()

    def reconstruct(self, evidence: GradientEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        network = copy_of(evidence)
        return reconstructions(evidence, [self._batch(evidence, network, q) for q in range(len(evidence.updates))])

    def _batch(self, evidence: GradientEvidence, network: Copy, step: int) -> Guess:
        labels, found = labels_of(evidence, step).labels, []
        for restart in range(self.restarts):
            generator = torch_stream(evidence.seed, "geiping", step, restart)
            start = torch.rand(len(labels), *evidence.shape, generator=generator)
            found.append(self._descended(evidence, network, step, start, labels))
        best = min(found, key=lambda one: one.loss)
        queries = self.restarts * self.iterations * len(labels)
        return Guess(best.x, labels, np.full(len(labels), -best.loss), best.loss, queries)

    def _descended(
        self, evidence: GradientEvidence, network: Copy, step: int, start: torch.Tensor, labels: np.ndarray
    ) -> _End:
        box, shared = evidence.box, network.shared(evidence.updates[step], len(labels))
        targets = one_hot(labels, evidence.classes, torch.float32)
        x = (box.low + start * (box.high - box.low)).requires_grad_(True)
        moved, best = torch.optim.Adam([x]), _End(math.inf, x.detach().clone())
        for iteration in range(self.iterations):
            if iteration % TOLD == 0:
                evidence.tell(f"geiping: step {step + 1} of {len(evidence.updates)}, iteration {iteration}")
            loss = cosine_distance(network.gradients(x, targets), shared) + self.tv * total_variation(x)
            if float(loss.detach()) < best.loss:
                best = _End(float(loss.detach()), x.detach().clone())
            x.grad = torch.autograd.grad(loss, x)[0].sign()
            moved.param_groups[0]["lr"] = self.lr * 0.1 ** sum(iteration >= d * self.iterations for d in DECAYS)
            _step(moved, x, box.unit)
            with torch.no_grad():
                x.copy_(inside(x, box))
        return best


def cosine_distance(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scalar in [0, 2]: 1 minus the cosine of the angle between two gradients, all parameters together."""
    product, norm, other = (
        torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()
        for left, right in ((first, second), (first, first), (second, second))
    )
    return 1 - product / (norm.clamp(min=1e-24).sqrt() * other.clamp(min=1e-24).sqrt())


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Scalar: mean absolute difference of pixels next to each other, down and across; 0 for records that are none.

    Args:
        x: [b, channels, height, width], or [b, features].
    """
    if x.dim() != 4:
        return torch.zeros(())
    return (x[:, :, 1:] - x[:, :, :-1]).abs().mean() + (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().mean()


def _step(optimizer: torch.optim.Optimizer, x: torch.Tensor, unit: torch.Tensor) -> None:
    """One step, as long as the units of the box say."""
    before = x.detach().clone()
    optimizer.step()
    with torch.no_grad():
        x.copy_(before + (x - before) * unit)
