"""Deep leakage from gradients: made-up records and labels whose gradient is the one that was shared."""

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
    labels_of,
    one_hot,
    reconstructions,
    why_no_labels,
)
from sfumato.seeding import torch_stream
from sfumato.types import Floats
from sfumato.validate import at_least

MATCHED = 1e-12  # squared distance, over the squared norm of what was shared, from which nothing is left to find
CLIPPED = (
    "needs an update that was not clipped: of a clipped one it finds nothing even without noise, so that its failure "
    "would say nothing of the noise; geiping does"
)
STALLED = 3  # iterations without any progress


class _Best(NamedTuple):
    loss: float
    x: torch.Tensor
    logits: torch.Tensor
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class DLG(GradientInversion):
    """Minimises the squared distance of gradients by L-BFGS (Zhu, Liu, Han, NeurIPS 2019, arXiv 1906.08935).

    Records start as standard normal numbers; labels are logits that are optimised along with them, or read off the last
    layer first where that leaves no doubt (iDLG, Zhao et al. 2020, arXiv 2001.02610). The authors' code attacks one
    picture at a time, with a LeNet of sigmoids with weights drawn from U(-0.5, 0.5), for 300 iterations. It wants
    second derivatives: with ReLU it seldom gets anywhere. Computed in float64; what it finds is clamped to the box.
    It matches lengths, so that it is no test of clipped updates: those are refused.

    Args:
        iterations: calls of L-BFGS, of up to 20 evaluations each; it ends sooner where nothing moves any more.
        restarts: starting points; the one that comes nearest to the gradient counts.
        read_labels: whether labels are read off where they can be; else they are always optimised (as DLG does).
    """

    name: ClassVar[str] = "dlg"
    reference: ClassVar[str] = "zhu2019deep"
    summary: ClassVar[str] = "Moves made-up records until their gradient is the one that a training step shared."
    bibtex: ClassVar[str] = """@inproceedings{zhu2019deep,
  author = {Zhu, Ligeng and Liu, Zhijian and Han, Song},
  title = {Deep Leakage from Gradients},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2019}
}"""

    iterations: int = 300
    restarts: int = 1
    read_labels: bool = True

    def __post_init__(self) -> None:
        at_least("iterations", self.iterations, 1)
        at_least("restarts", self.restarts, 1)

    @classmethod
    def example(cls) -> DLG:
        return cls(iterations=1)

    def refuses(self, evidence: GradientEvidence) -> tuple[str, ...]:
        return () if evidence.private is None else (CLIPPED,)

    def reconstruct(self, evidence: GradientEvidence, fitted: Sequence[dict[str, Floats]] = ()) -> Reconstructions:
        network = copy_of(evidence, torch.float64)
        return reconstructions(evidence, [self._batch(evidence, network, q) for q in range(len(evidence.updates))])

    def _batch(self, evidence: GradientEvidence, network: Copy, step: int) -> Guess:
        fixed, found = self._fixed(evidence, step), []
        for restart in range(self.restarts):
            evidence.tell(f"dlg: step {step + 1} of {len(evidence.updates)}, start {restart + 1} of {self.restarts}")
            generator = torch_stream(evidence.seed, "dlg", step, restart)
            size = int(evidence.sizes[step])
            x = torch.randn(size, *evidence.shape, generator=generator, dtype=torch.float64)
            logits = torch.randn(size, evidence.classes, generator=generator, dtype=torch.float64)
            found.append(self._descended(network, network.shared(evidence.updates[step], size), x, logits, fixed))
        best = min(found, key=lambda one: one.loss)
        labels = best.logits.argmax(dim=1).numpy() if fixed is None else fixed.argmax(dim=1).numpy()
        queries = sum(one.evaluations for one in found) * len(best.x)
        return Guess(best.x, labels, np.full(len(best.x), -best.loss), best.loss, queries)

    def _fixed(self, evidence: GradientEvidence, step: int) -> torch.Tensor | None:
        """Labels that need not be optimised, one-hot [size, classes], or None."""
        if evidence.labels is None and (not self.read_labels or why_no_labels(evidence)):
            return None
        read = labels_of(evidence, step)
        return one_hot(read.labels, evidence.classes, torch.float64) if read.certain else None

    def _descended(
        self,
        network: Copy,
        shared: list[torch.Tensor],
        x: torch.Tensor,
        logits: torch.Tensor,
        fixed: torch.Tensor | None,
    ) -> _Best:
        x.requires_grad_(True)
        logits.requires_grad_(fixed is None)
        free = [x] if fixed is not None else [x, logits]
        optimizer = torch.optim.LBFGS(free)
        best, scale, stalled = _Best(math.inf, x.detach().clone(), logits.detach().clone(), 0), _squared(shared), 0
        evaluations = 0

        def closure() -> torch.Tensor:
            nonlocal best, evaluations
            evaluations += 1
            targets = logits.softmax(dim=1) if fixed is None else fixed
            loss = squared_distance(network.gradients(x, targets), shared)
            for tensor, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
                tensor.grad = gradient
            if float(loss.detach()) < best.loss:
                best = _Best(float(loss.detach()), x.detach().clone(), logits.detach().clone(), evaluations)
            return loss.detach()

        for _ in range(self.iterations):
            before = best.loss
            optimizer.step(closure)
            stalled = stalled + 1 if best.loss >= before * (1 - 1e-6) else 0
            if best.loss <= MATCHED * scale or stalled == STALLED or not bool(x.isfinite().all()):
                break
        return best._replace(evaluations=evaluations)


def squared_distance(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scalar: the sum over all parameters of the squared difference of two gradients."""
    return torch.stack([(a - b).square().sum() for a, b in zip(first, second, strict=True)]).sum()


def _squared(gradient: Sequence[torch.Tensor]) -> float:
    return float(torch.stack([part.square().sum() for part in gradient]).sum())
