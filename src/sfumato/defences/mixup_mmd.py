"""Mixup and a penalty on the discrepancy between answers to training and to reference records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from sfumato.defences.mixup import Mixup
from sfumato.defences.reference_batches import position
from sfumato.training.defence import Batch, ReferenceDefence
from sfumato.training.draws import Draws
from sfumato.training.loop import Hooks, Step
from sfumato.training.losses import log_probabilities
from sfumato.training.workshop import Workshop
from sfumato.validate import at_least, in_range, positive

PULLED = "MMD epoch"


@dataclass(frozen=True, kw_only=True)
class MixupMMD(ReferenceDefence):
    """Mixup, and after each epoch but the last one that brings training answers near reference answers.

    An MMD epoch minimises weight * MMD^2 between the softmax answers to a batch of training records and to reference
    records of the same classes, which get no gradient (Li, Li and Ribeiro, 2021). MMD^2 is the biased estimate with
    Gaussian kernels. An epoch is left out where training and reference accuracy are near each other. It sees records as
    they are, not mixed, and the network in eval mode. Its steps have an optimiser state of their own, where the
    authors' code has one for both kinds of steps.

    Args:
        weight: lambda of the paper, at least 0; 3 in the authors' code.
        alpha: of mixup's Beta distribution, above 0.
        sigmas: widths of the kernels, above 0; their kernels are summed.
        least_gap: difference of accuracies below which an MMD epoch is left out, in [0, 1].
    """

    name: ClassVar[str] = "mixup-mmd"
    reference: ClassVar[str] = "li2021membership"
    summary: ClassVar[str] = "Mixup, and epochs that bring answers to training and to reference records together."
    bibtex: ClassVar[str] = """@inproceedings{li2021membership,
  author = {Li, Jiacheng and Li, Ninghui and Ribeiro, Bruno},
  title = {Membership Inference Attacks and Defenses in Classification Models},
  booktitle = {ACM Conference on Data and Application Security and Privacy},
  year = {2021}
}"""
    couples: ClassVar[str] = (
        "it mixes records of the batch with each other, and its discrepancy is one of a whole batch from reference "
        "records"
    )
    branches: ClassVar[tuple[str, ...]] = (PULLED,)

    weight: float = 3.0
    alpha: float = 1.0
    sigmas: tuple[float, ...] = (1.0,)
    least_gap: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("weight", self.weight, 0)
        positive("alpha", self.alpha)
        object.__setattr__(self, "sigmas", tuple(self.sigmas))
        at_least("number of sigmas", len(self.sigmas), 1)
        for sigma in self.sigmas:
            positive("sigmas", sigma)
        in_range("least_gap", self.least_gap, 0, 1)

    @property
    def trainings(self) -> float:
        return 2.5  # a step on training records, a pass over reference records, and two accuracies

    def transform(self, batch: Batch, draws: Draws) -> Batch:
        return Mixup(alpha=self.alpha).transform(batch, draws)

    def course(self, workshop: Workshop) -> nn.Module:
        network = workshop.network()
        optimizer = workshop.optimizer([p for p in network.parameters() if p.requires_grad])
        pull = _Pull(self, workshop, network, optimizer)
        hooks = Hooks(backward=pull.backward, before=pull.before, kept={"MMD optimiser": optimizer})
        return workshop.fit("mixup", network, hooks=hooks)


class _Pull:
    """The MMD epochs of one training. Each comes ahead of the first step of the next mixup epoch."""

    def __init__(
        self, defence: MixupMMD, workshop: Workshop, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self.defence, self.workshop, self.network, self.optimizer = defence, workshop, network, optimizer
        self.pulled = False

    def before(self, rows: torch.Tensor, draws: Draws, done: float) -> None:
        """Ahead of each step; the last mixup epoch has no MMD epoch after it."""
        epoch, step = position(self.workshop, done)
        if step:
            return
        self.pulled = epoch > 0 and self.defence.weight > 0 and self._gap() >= self.defence.least_gap
        if self.pulled:
            self.network.eval()
            self.workshop.set_rate(self.optimizer, done)
            for own, at in self.workshop.batches(self.workshop.fit_rows, draws.at("pull")):
                self._step(own, at, epoch)
            self.network.train()

    def backward(self, step: Step) -> torch.Tensor:
        """An ordinary step, counted where an MMD epoch went ahead of its epoch."""
        values = self.workshop.objective(step.seen)
        step.seen.count(PULLED, torch.full_like(values, self.pulled, dtype=torch.bool))
        loss = values.mean()
        loss.backward()
        return loss.detach()

    def _gap(self) -> float:
        shop = self.workshop
        training, reference = (
            (shop.outputs(self.network, rows).argmax(1) == shop.targets[rows].argmax(1)).double().mean()
            for rows in (shop.fit_rows, shop.reference_rows)
        )
        return float((training - reference).abs())

    def _step(self, rows: torch.Tensor, draws: Draws, epoch: int) -> None:
        shop, epochs = self.workshop, self.workshop.task.epochs
        labels, theirs = (shop.targets[r].argmax(1) for r in (rows, shop.reference_rows))
        own, other = class_matched(labels, theirs, draws)
        if not len(own):
            return
        batch = shop.batch(rows[own], draws, transformed=False)
        answers = log_probabilities(shop.seen(self.network, batch, draws, epoch, epochs).outputs).exp()
        beside = draws.at("beside")
        with torch.no_grad():
            batch = shop.batch(shop.reference_rows[other], beside, transformed=False)
            aim = log_probabilities(shop.seen(self.network, batch, beside, epoch, epochs).outputs).exp()
        shop.descend(self.defence.weight * mmd2(answers, aim, self.defence.sigmas), self.optimizer)


class Matched(NamedTuple):
    """Pairs of one class: positions of records, and of reference records, int64 [pairs] each."""

    own: torch.Tensor
    other: torch.Tensor


def class_matched(labels: torch.Tensor, reference: torch.Tensor, draws: Draws) -> Matched:
    """A random reference record of the same class for each record; records of classes without any are left out.

    Args:
        labels: int64 [k], of the records.
        reference: int64 [r], of the reference records; one may serve several records.
        draws: for the choice.
    """
    classes = 1 + max(int(labels.max()), int(reference.max()))
    counts = torch.bincount(reference, minlength=classes)
    starts, order = counts.cumsum(0) - counts, reference.argsort(stable=True)
    chosen = (draws.uniform("reference", len(labels))[0] * counts[labels]).long()
    own = (counts[labels] > 0).nonzero()[:, 0]
    return Matched(own, order[(starts[labels] + chosen)[own]])


def mmd2(x: torch.Tensor, y: torch.Tensor, sigmas: tuple[float, ...]) -> torch.Tensor:
    """Squared maximum mean discrepancy of two samples, the biased estimate (Gretton et al., 2012, equation 5).

    The kernel is the sum over sigmas of exp(-||a - b||^2 / (2 sigma^2)).

    Args:
        x: [m, D].
        y: [n, D].
        sigmas: above 0.

    Returns:
        A scalar, at least 0 but for rounding.
    """

    def mean_kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T).clamp_min(0)
        return sum((torch.exp(-squared / (2 * sigma**2)) for sigma in sigmas), torch.zeros_like(squared)).mean()

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)
