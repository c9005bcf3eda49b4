"""Weighted empirical risk minimisation over training and reference records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from sfumato.defences.reference_batches import reference_batch, seen_beside
from sfumato.training.defence import ReferenceDefence
from sfumato.training.loop import Hooks, Step
from sfumato.training.workshop import Workshop
from sfumato.validate import in_range


@dataclass(frozen=True, kw_only=True)
class WERM(ReferenceDefence):
    """Minimises (1 - weight) * risk of the training records + weight * risk of the reference records.

    A deliberately simple baseline where reference records exist (Kaplan et al., 2024): what the training records gain
    the reference records pay. Each step takes a batch of either kind, of the same size.

    Args:
        weight: of the reference records, in [0, 1]. At 0 they are not learned from, at 1 nothing else is, but for
            batch normalisation, whose running statistics are those of both kinds of batches.
    """

    name: ClassVar[str] = "werm"
    reference: ClassVar[str] = "kaplan2024cautionary"
    summary: ClassVar[str] = "Learns from training and reference records with a weight between them."
    bibtex: ClassVar[str] = """@article{kaplan2024cautionary,
  author = {Kaplan, Caelin G. and Xu, Chuan and Marfoq, Othmane and Neglia, Giovanni
            and Santana de Oliveira, Anderson},
  title = {A Cautionary Tale: On the Role of Reference Data in Empirical Privacy Defenses},
  journal = {Proceedings on Privacy Enhancing Technologies},
  year = {2024},
  note = {arXiv:2310.12112}
}"""
    reconstruction: ClassVar[str] = (
        "the weighted sum follows the paper's abstract; its own rule for the weight, which comes from a bound on the "
        "generalisation error, and its training settings are not known to us"
    )

    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("weight", self.weight, 0, 1)

    @property
    def trainings(self) -> float:
        return 2.0

    def course(self, workshop: Workshop) -> nn.Module:
        def backward(step: Step) -> torch.Tensor:
            risk = (1 - self.weight) * workshop.objective(step.seen).mean()
            risk.backward()
            rows = reference_batch(workshop, len(step.rows), step.draws)
            other = self.weight * workshop.objective(seen_beside(workshop, step, rows)).mean()
            other.backward()
            return risk.detach() + other.detach()

        return workshop.fit("weighted risk", workshop.network(), hooks=Hooks(backward=backward))
